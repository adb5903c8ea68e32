import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { SMTPServer, type SMTPServerOptions } from "smtp-server";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { LogFields, Run } from "../../src/lib/kernel/run.ts";
import { alertAboutChannels } from "../../src/lib/ops/alert-channel-alerts.ts";
import { channelReads, noticeLedger } from "../../src/lib/ops/alert-notifications.supabase.ts";
import { deliverNotices, type NoticeChannel } from "../../src/lib/ops/alert-notifications.ts";
import { emailChannel } from "../../src/lib/ops/alert-notifier-email.ts";
import { insightsChannel } from "../../src/lib/ops/alert-notifier-insights.ts";
import { slackChannel } from "../../src/lib/ops/alert-notifier-slack.ts";
import { teamsChannel } from "../../src/lib/ops/alert-notifier-teams.ts";
import { alertLedger } from "../../src/lib/ops/alerts.supabase.ts";
import { createAlerts } from "../../src/lib/ops/alerts.ts";
import { createSmtpMailer } from "../../src/lib/ops/smtp-mailer.ts";
import { redact } from "../../src/lib/runtime/logger.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { openDatabase, type TestDatabase } from "../support/stack.ts";

let database: TestDatabase;
let api: ReturnType<typeof createRpc>;
beforeAll(async () => {
  database = await openDatabase();
  const { url, key } = await database.supabase();
  api = createRpc({ url, key });
});
afterAll(async () => {
  await api.close();
  await database.close();
});
beforeEach(async () => {
  await database.sql`truncate worker.alerts, worker.alert_channels cascade`;
});

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

const TEXT = {
  serviceName: "worker-service",
  environment: "test",
  docsUrl: "https://docs.example.com/worker",
  redact,
};
const clock = { now: Date.now };

function openRun() {
  const lines: { event: string; fields: LogFields }[] = [];
  const write = (event: string, fields: LogFields = {}) => void lines.push({ event, fields });
  const log = { info: write, warn: write, error: write };
  const signal = AbortSignal.timeout(60_000);
  const run: Run = { name: "test", id: "1", log, signal, note: () => {} };
  return { run, lines, log };
}

const alerts = () => createAlerts({ clock, alertLedger: alertLedger(api.rpc), log: openRun().log });
const raise = (
  key: string,
  evidence: Record<string, unknown> = { shard: 7 },
  level: "info" | "warning" | "critical" = "warning",
) =>
  alerts().raise(
    { key, level, title: "Uses are late", evidence, runbook: "docs/operations/usage.md#late" },
    new AbortController().signal,
  );

const deliver = (...noticeChannels: NoticeChannel[]) =>
  deliverNotices({ clock, noticeLedger: noticeLedger(api.rpc), noticeChannels }, openRun().run);

/** A hook that answers as told, and what it was sent. */
async function openHook(answer: (response: ServerResponse, request: IncomingMessage) => void) {
  const bodies: unknown[] = [];
  const server: Server = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk: Buffer) => {
      text += chunk;
    });
    request.on("end", () => {
      bodies.push(JSON.parse(text));
      answer(response, request);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    server.close();
    server.closeAllConnections();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook/secret-part`;
  const options = { ...TEXT, url, fetch };
  return { bodies, slack: slackChannel(options), teams: teamsChannel(options) };
}
const ok = (response: ServerResponse) => void response.end("ok");
const status = (code: number) => (response: ServerResponse) =>
  void response.writeHead(code).end("no");

async function openSmtp(options: SMTPServerOptions = {}) {
  const mails: { to: string[]; text: string }[] = [];
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ["STARTTLS"],
    onData: (stream, session, done) => {
      let text = "";
      stream.on("data", (chunk: Buffer) => {
        text += chunk;
      });
      stream.on("end", () => {
        mails.push({ to: session.envelope.rcptTo.map(({ address }) => address), text });
        done();
      });
    },
    ...options,
  });
  server.on("error", () => {}); // a client that breaks off is part of the tests
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => server.close());
  const { port } = server.server.address() as AddressInfo;
  return { mails, channel: mailTo(`smtp://127.0.0.1:${port}`) };
}
const mailTo = (url: string) =>
  emailChannel(
    createSmtpMailer({
      url,
      from: "worker@example.com",
      connectTimeoutMs: 300,
      socketTimeoutMs: 500,
    }),
    {
      ...TEXT,
      to: ["ops@example.com", "night@example.com"],
    },
  );

const states = async () => {
  const rows = await database.sql`
    select channel, state, attempt, error from worker.alert_messages order by id`;
  return rows.map((row) => `${row["channel"]} ${row["state"]} ${row["attempt"]} ${row["error"]}`);
};
/** Lets every waiting message be due now. */
const makeDue = () =>
  database.sql`update worker.alert_messages set next_attempt_at = now() where state = 'retrying'`;

describe("a notice", () => {
  test("reaches every channel once, however often the deliverer runs", async () => {
    const [slack, teams, smtp] = [await openHook(ok), await openHook(ok), await openSmtp()];
    const { lines, log } = openRun();
    const channels = [slack.slack, teams.teams, smtp.channel, insightsChannel(log, TEXT)];
    await raise("late:1");
    const report = await deliver(...channels);
    expect(report).toMatchObject({ slack: { sent: 1 }, teams: { sent: 1 }, email: { sent: 1 } });
    for (let i = 0; i < 3; i++) await deliver(...channels);
    expect([slack.bodies.length, teams.bodies.length, smtp.mails.length]).toEqual([1, 1, 1]);
    expect(smtp.mails[0]?.to).toEqual(["ops@example.com", "night@example.com"]);
    expect(smtp.mails[0]?.text).toContain(
      "https://docs.example.com/worker/operations/usage.md#late",
    );
    expect(lines).toMatchObject([
      {
        event: "alert_notice",
        fields: {
          name: "AlertNotice",
          properties: { key: "late:1", level: "warning", reason: "new" },
          measurements: { count: 1 },
        },
      },
    ]);
  });

  test("tells what is over", async () => {
    const { slack, bodies } = await openHook(ok);
    await raise("late:1");
    await alerts().resolve("late:1", new AbortController().signal);
    await deliver(slack);
    expect(bodies).toHaveLength(2);
    expect(JSON.stringify(bodies[1])).toContain("✅");
  });

  test("shows markup as text, links its runbook, and shows no secret", async () => {
    const { slack, teams, bodies } = await openHook(ok);
    await raise("late:<!channel>", {
      note: "*bold* <https://evil.example|click> ```\nFrom: x",
      url: "redis://user:secret-1@host",
      apiKey: "secret-2",
    });
    await deliver(slack, teams);
    const [hook, card] = bodies.map((body) => JSON.stringify(body)).sort();
    expect(`${hook}${card}`).not.toContain("secret-");
    const slackText = [hook, card].find((text) => text?.includes("mrkdwn")) ?? "";
    expect(slackText).not.toMatch(/<!channel>|<https:\/\/evil/);
    expect(slackText).toContain("&lt;!channel&gt;");
    expect(slackText.split("```").length).toBe(3); // nothing inside ends the fence
    expect(slackText).toContain(
      "<https://docs.example.com/worker/operations/usage.md#late|Runbook>",
    );
    const teamsText = [hook, card].find((text) => text?.includes("AdaptiveCard")) ?? "";
    expect(teamsText).not.toContain('"TextBlock"'); // text blocks would read markdown
    expect(teamsText).toContain("Action.OpenUrl");
  });

  test("from before the channel existed is not told", async () => {
    await raise("old:1");
    await database.sql`update worker.alert_notices set noticed_at = now() - interval '2 hours'`;
    await raise("new:1");
    const { slack, bodies } = await openHook(ok);
    await deliver(slack);
    expect(bodies).toHaveLength(1);
    expect(JSON.stringify(bodies)).toContain("new:1");
  });
});

describe("a channel that fails", () => {
  test.each([
    [429, "retrying"],
    [503, "retrying"],
    [500, "retrying"],
    [404, "dead"],
    [403, "dead"],
    [302, "dead"],
    [504, "unknown"],
  ])("with %i leaves the message %s", async (code, state) => {
    const { slack } = await openHook(status(code));
    await raise("late:1");
    await deliver(slack);
    expect(await states()).toEqual([`slack ${state} 1 http_${code}`]);
  });

  test("is tried again, and the notice arrives once", async () => {
    let isDown = true;
    const { slack, bodies } = await openHook((response) =>
      isDown ? status(503)(response) : ok(response),
    );
    await raise("late:1");
    await deliver(slack);
    await deliver(slack); // not due yet
    expect(bodies).toHaveLength(1);
    isDown = false;
    await makeDue();
    await deliver(slack);
    await deliver(slack);
    expect(bodies).toHaveLength(2);
    expect(await states()).toEqual(["slack sent 2 null"]);
  });

  test("for good is given up after a bounded number of attempts", async () => {
    const { slack } = await openHook(status(503));
    await raise("late:1");
    await deliver(slack);
    await database.sql`update worker.alert_messages set attempt = 9`;
    await makeDue();
    await deliver(slack);
    expect(await states()).toEqual(["slack dead 10 http_503"]);
  });

  test("never touches the others", async () => {
    const good = await openHook(ok);
    const broken: NoticeChannel = {
      name: "teams",
      send: () => Promise.reject(new Error("a bug of ours")),
    };
    await raise("late:1");
    const report = await deliver(broken, mailTo("smtp://127.0.0.1:1"), good.slack);
    expect(report).toMatchObject({
      slack: { sent: 1 },
      teams: { unknown: 1 },
      email: { failed: 1 },
    });
    expect(good.bodies).toHaveLength(1);
  });

  test("is an alert until a message arrives again", async () => {
    const open = async () => {
      const deps = { alerts: alerts(), channelReads: channelReads(api.rpc) };
      await alertAboutChannels(deps, new AbortController().signal);
      const rows = await database.sql`
        select key, state from worker.alerts where kind = 'alert_channel' order by id`;
      return rows.map((row) => `${row["key"]} ${row["state"]}`);
    };
    await raise("late:1");
    await deliver((await openHook(status(404))).slack);
    expect(await open()).toEqual(["alert_channel:slack firing"]);
    await deliver((await openHook(ok)).slack);
    expect(await open()).toEqual(["alert_channel:slack resolved"]);
  });

  test("of Teams is noticed though it answers 200", async () => {
    const { teams } = await openHook(
      (response) => void response.end("Webhook message delivery failed"),
    );
    await raise("late:1");
    await deliver(teams);
    expect(await states()).toEqual(["teams retrying 1 answer_failed"]);
  });
});

describe("an outcome that nobody knows", () => {
  test("is parked: a hook that took the message and broke off gets it once", async () => {
    const { slack, bodies } = await openHook((response) => void response.destroy());
    await raise("late:1");
    await deliver(slack);
    await deliver(slack);
    expect(bodies).toHaveLength(1);
    expect((await states())[0]).toMatch(/^slack unknown 1 /);
  });

  test("is parked: the sender died between claim and settlement", async () => {
    const { slack, bodies } = await openHook(ok);
    await raise("late:1");
    const claim = { windowSeconds: 600, windowMax: 20, leaseSeconds: 120 };
    await noticeLedger(api.rpc).claim({ channel: "slack", ...claim }, openRun().run.signal);
    await deliver(slack); // the lease still runs
    expect(bodies).toHaveLength(0);
    await database.sql`update worker.alert_messages set lease_until = now() - interval '1 second'`;
    await deliver(slack);
    expect(bodies).toHaveLength(0);
    expect(await states()).toEqual(["slack unknown 1 sender_lost"]);
  });

  test("cannot be settled by a claim that is over", async () => {
    await raise("late:1");
    const ledger = noticeLedger(api.rpc);
    const claim = {
      channel: "slack",
      windowSeconds: 600,
      windowMax: 20,
      leaseSeconds: 120,
    } as const;
    const { signal } = openRun().run;
    const [first] = await ledger.claim(claim, signal);
    await database.sql`update worker.alert_messages set attempt = 2`;
    if (first === undefined) throw new Error("nothing claimed");
    const sent = { outcome: "sent", error: null, retrySeconds: 0, attemptsMax: 10 } as const;
    await ledger.settle(first, sent, signal);
    expect(await states()).toEqual(["slack sending 2 null"]);
  });
});

describe("too many notices", () => {
  test("become one summary behind the most urgent ones, in 20 messages of 10 minutes", async () => {
    const { slack, bodies } = await openHook(ok);
    for (let i = 0; i < 30; i++) await raise(`late:${i}`);
    await raise("worst:1", {}, "critical");
    await deliver(slack);
    expect(bodies).toHaveLength(20);
    expect(JSON.stringify(bodies[0])).toContain("worst:1");
    expect(JSON.stringify(bodies[19])).toContain("12 notices in short time");
    await raise("later:1");
    await deliver(slack);
    expect(bodies).toHaveLength(20); // the window is used up
    await database.sql`update worker.alert_messages set claimed_at = now() - interval '11 minutes'`;
    await deliver(slack);
    expect(bodies).toHaveLength(21);
    const told = await database.sql`
      select count(distinct notice_id)::int as notices, count(*)::int as rows from worker.alert_deliveries`;
    expect(told[0]).toEqual({ notices: 32, rows: 32 });
  });

  test("are told once when two deliverers run at once", async () => {
    const { slack, bodies } = await openHook(ok);
    for (let i = 0; i < 10; i++) await raise(`late:${i}`);
    await Promise.all(Array.from({ length: 4 }, () => deliver(slack)));
    expect(bodies).toHaveLength(10);
  });
});

describe("mail", () => {
  test.each([
    [450, "retrying"],
    [550, "dead"],
  ])("that is refused with %i before its content is %s", async (responseCode, state) => {
    const refuse: SMTPServerOptions["onRcptTo"] = (_, __, done) =>
      done(Object.assign(new Error("no"), { responseCode }));
    const { channel } = await openSmtp({ onRcptTo: refuse });
    await raise("late:1");
    await deliver(channel);
    expect(await states()).toEqual([`email ${state} 1 smtp_${responseCode}`]);
  });

  test("whose content was taken and whose answer never came is unknown", async () => {
    const { channel } = await openSmtp({ onData: (stream) => void stream.resume() });
    await raise("late:1");
    await deliver(channel);
    expect(await states()).toEqual(["email unknown 1 ETIMEDOUT"]);
  });

  test("to a server that never greets is known not to have left", async () => {
    const server = createTcpServer(() => {});
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closers.push(() => server.close());
    await raise("late:1");
    await deliver(mailTo(`smtp://127.0.0.1:${(server.address() as AddressInfo).port}`));
    expect((await states())[0]).toMatch(/^email retrying 1 /);
  });

  test("cannot be given a header by a title", async () => {
    const { mails, channel } = await openSmtp();
    await alerts().raise(
      {
        key: "late:1",
        level: "warning",
        title: "Late\r\nBcc: thief@example.com",
        evidence: {},
        runbook: "",
      },
      new AbortController().signal,
    );
    await deliver(channel);
    expect(mails[0]?.text).not.toMatch(/^Bcc:/m);
    expect(mails[0]?.to).toHaveLength(2);
  });
});
