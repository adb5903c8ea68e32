import { type QueueClient, QueueServiceClient } from "@azure/storage-queue";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Run } from "../../src/lib/kernel/run.ts";
import { alertLedger } from "../../src/lib/ops/alerts.supabase.ts";
import { createAlerts } from "../../src/lib/ops/alerts.ts";
import { canaryArrivals, canaryLedger } from "../../src/lib/ops/canary.supabase.ts";
import { canaryMessage, canaryOf, unlessCanary } from "../../src/lib/ops/canary.ts";
import { type CanaryFlightDeps, flyCanaries } from "../../src/lib/ops/canary-flights.ts";
import { queuePeeks } from "../../src/lib/ops/queue-backlog.storage.ts";
import { judgeBacklog } from "../../src/lib/ops/queue-backlog.ts";
import { createQueueSender } from "../../src/lib/runtime/queue-sender.storage.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { openDatabase, openQueues, type TestDatabase, type TestQueues } from "../support/stack.ts";

let database: TestDatabase;
let api: ReturnType<typeof createRpc>;
let queues: TestQueues;
let queue: QueueClient;
beforeAll(async () => {
  database = await openDatabase();
  const { url, key } = await database.supabase();
  api = createRpc({ url, key });
  queues = await openQueues();
  const service = QueueServiceClient.fromConnectionString(queues.connectionString);
  queue = service.getQueueClient(queues.uniqueName("canary"));
  await queue.create();
});
afterAll(async () => {
  await queue.delete();
  await api.close();
  await database.close();
});
beforeEach(async () => {
  await database.sql`truncate worker.canaries, worker.alerts cascade`;
  await queue.clearMessages();
});

const log = { info: () => {}, warn: () => {}, error: () => {} };
const signal = new AbortController().signal;
const run: Run = { name: "healthCheck", id: "1", log, signal, note: () => {} };
const clock = { now: Date.now };
const alerts = () => createAlerts({ clock, alertLedger: alertLedger(api.rpc), log });
const deps = (names = [queue.name], everyMinutes = 15): CanaryFlightDeps => ({
  clock,
  alerts: alerts(),
  canaryConfig: { everyMinutes, queues: names },
  canaryLedger: canaryLedger(api.rpc),
  canarySender: createQueueSender({ connectionString: queues.connectionString }),
});
const openAlerts = async () => {
  const rows = await database.sql`
    select key, level from worker.alerts where resolved_at is null order by key`;
  return rows.map((row) => `${row["key"]} ${row["level"]}`);
};
/** As if so many minutes had passed since. */
const age = (minutes: number) =>
  database.sql`update worker.canaries set sent_at = sent_at - make_interval(mins => ${minutes})`;

/** Takes every message as the host would: parsed, then deleted when its handler is done. */
async function consume(): Promise<number> {
  const { receivedMessageItems } = await queue.receiveMessages({ numberOfMessages: 32 });
  let worked = 0;
  for (const { messageText, messageId, popReceipt } of receivedMessageItems) {
    const raw: unknown = JSON.parse(Buffer.from(messageText, "base64").toString());
    const handler = { canaryArrivals: canaryArrivals(api.rpc) };
    await unlessCanary(handler, raw, run, async () => {
      worked += 1;
    });
    await queue.deleteMessage(messageId, popReceipt);
  }
  return worked;
}

describe("a canary", () => {
  test("goes through its queue, comes back and is not work", async () => {
    expect(await flyCanaries(deps(), run)).toMatchObject({ sent: 1, late: [] });
    expect(await consume()).toBe(0);
    expect(await flyCanaries(deps(), run)).toMatchObject({ sent: 0, late: [] });
    expect(await openAlerts()).toEqual([]);
  });

  test("is the only one on its way, however long its consumer is silent", async () => {
    for (let minute = 0; minute < 50; minute += 1) {
      await flyCanaries(deps(), run);
      await age(1);
    }
    expect((await queue.getProperties()).approximateMessagesCount).toBe(1);
    await age(15);
    await flyCanaries(deps(), run); // the first counts as lost after an hour
    expect((await queue.getProperties()).approximateMessagesCount).toBe(2);
  });

  test("that is late is an alert, which is over with the next one that arrives", async () => {
    await flyCanaries(deps(), run);
    await age(4);
    await flyCanaries(deps(), run);
    expect(await openAlerts()).toEqual([]);
    await age(2);
    expect(await flyCanaries(deps(), run)).toMatchObject({ late: [queue.name] });
    expect(await openAlerts()).toEqual([`queue_canary:${queue.name} critical`]);
    await consume();
    await flyCanaries(deps(), run);
    expect(await openAlerts()).toEqual([]);
  });

  test("that cannot be sent does not count as on its way, and stops no other", async () => {
    const missing = queues.uniqueName("missing");
    expect(await flyCanaries(deps([missing, queue.name]), run)).toMatchObject({
      sent: 1,
      unsent: 1,
    });
    const rows = await database.sql`select queue from worker.canaries`;
    expect(rows.map((row) => row["queue"])).toEqual([queue.name]);
  });

  test("arrives as often as its message does, and an unknown one is acknowledged", async () => {
    const arrivals = canaryArrivals(api.rpc);
    await flyCanaries(deps(), run);
    const [row] = await database.sql`select id from worker.canaries`;
    expect(await arrivals.arrive(String(row?.["id"]), signal)).toBe(true);
    const [first] = await database.sql`select arrived_at from worker.canaries`;
    expect(await arrivals.arrive(String(row?.["id"]), signal)).toBe(true);
    const [second] = await database.sql`select arrived_at from worker.canaries`;
    expect(second).toEqual(first);
    expect(await arrivals.arrive("00000000-0000-4000-8000-000000000000", signal)).toBe(false);
  });

  test("does not fly when it is switched off", async () => {
    expect(await flyCanaries(deps([queue.name], 0), run)).toEqual({ off: true });
    expect((await queue.getProperties()).approximateMessagesCount).toBe(0);
  });

  const id = "6f1e0b6c-2f51-4d54-9a5e-0a1b2c3d4e5f";
  test.each([
    ["its own message", canaryMessage(id, 0), id],
    ["work with a field of that name", { ...canaryMessage(id, 0), shard: 1 }, undefined],
    ["an id that is none", { canary: "x", sentAt: "y" }, undefined],
    ["text", "canary", undefined],
    ["nothing", null, undefined],
    ["a list", [id], undefined],
  ])("is told from work: %s", (_, raw, expected) => {
    expect(canaryOf(raw)).toBe(expected);
  });
});

describe("the backlog of a queue", () => {
  const judge = (names: readonly string[], laterSeconds = 0) =>
    judgeBacklog(
      {
        clock: { now: () => Date.now() + laterSeconds * 1000 },
        alerts: alerts(),
        queuePeeks: queuePeeks({ connectionString: queues.connectionString }),
        backlogConfig: { queues: names, ageWarnSeconds: 900 },
      },
      run,
    );

  test("is judged by its oldest message: a warning, then critical, then over", async () => {
    await queue.sendMessage("x");
    expect(await judge([queue.name])).toMatchObject({ messages: 1, late: 0 });
    expect(await openAlerts()).toEqual([]);
    expect(await judge([queue.name], 1000)).toMatchObject({ late: 1 });
    expect(await openAlerts()).toEqual([`queue_backlog:${queue.name} warning`]);
    await judge([queue.name], 4000);
    expect(await openAlerts()).toEqual([`queue_backlog:${queue.name} critical`]);
    await queue.clearMessages();
    await judge([queue.name], 4000);
    expect(await openAlerts()).toEqual([]);
  });

  test("does not count a message that is not due yet", async () => {
    await queue.sendMessage("x", { visibilityTimeout: 3600 });
    expect(await judge([queue.name], 3000)).toMatchObject({
      messages: 1,
      oldestSeconds: 0,
      late: 0,
    });
  });

  test("that does not exist is an alert of its own, and stops no other", async () => {
    const missing = queues.uniqueName("missing");
    await queue.sendMessage("x");
    expect(await judge([missing, queue.name], 1000)).toMatchObject({ missing: 1, late: 1 });
    expect(await openAlerts()).toEqual([
      `queue_backlog:${queue.name} warning`,
      `queue_missing:${missing} critical`,
    ]);
  });
});
