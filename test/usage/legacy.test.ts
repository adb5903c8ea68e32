import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { createUpstashDriver } from "../../src/lib/runtime/upstash-driver.redis.ts";
import { dispatchLegacy } from "../../src/lib/usage/legacy/dispatch-legacy.ts";
import { drainLegacy } from "../../src/lib/usage/legacy/drain-legacy.ts";
import { settlePoisonedLegacy } from "../../src/lib/usage/legacy/settle-poisoned-legacy.ts";
import { quarantineLedger } from "../../src/lib/usage/quarantine.supabase.ts";
import { retryQuarantined } from "../../src/lib/usage/quarantine.ts";
import { periodOf, shardOf } from "../../src/lib/usage/usage-keys.ts";
import {
  type LegacyWorld,
  openLegacyWorld,
  PENDING_KEY,
  pendingRecord,
} from "../support/legacy-world.ts";
import { testRun } from "../support/test-run.ts";
import { signal } from "../support/usage-world.ts";

const DAY_S = 86_400;

let world: LegacyWorld;
beforeAll(async () => {
  world = await openLegacyWorld();
});
afterAll(() => world.close());
afterEach(async () => {
  world.alerts.clear();
  world.queue.length = 0;
  await world.redis.command(["DEL", PENDING_KEY], signal);
});

const tenantName = (name: string) => `${name}-${randomUUID()}`;
const books = (tokens: string) => ({ events: tokens, ledger: tokens, totals: tokens });
const runOf = async (runId: string) => {
  const [row] = await world.database.sql`
    select status, booked::int, duplicates::int, set_aside::int, tokens::text, error_code
      from worker.usage_legacy_runs where run_id = ${runId}`;
  return row;
};

describe("the pending set", () => {
  test("is booked once, with its dimensions, and empty afterwards", async () => {
    const acme = tenantName("acme");
    await world.pend(
      pendingRecord({ tenant_id: acme, tokens: 7, agent_id: "a1", conversation_id: "c1" }),
      pendingRecord({ tenant_id: acme, tokens: 5, token_type: "embedding", model: "te-3" }),
    );
    const runId = await world.drain();
    await world.drain();
    expect(await world.booksOf(acme)).toEqual(books("12"));
    expect(await world.members()).toEqual([]);
    const total = await world.reads.total(acme, periodOf(Date.now()), signal);
    expect(total).toMatchObject({
      tokens: "12",
      used: "12",
      legacy: "12",
      breakdown: [
        { type: "embedding", model: "te-3", tokens: "5" },
        { type: "llm", model: "gpt-4o", tokens: "7" },
      ],
    });
    const events = await world.database.sql`
      select agent_id, conversation_id, b.lane from worker.usage_events e join worker.usage_batches b using (batch_id)
       where tenant = ${acme} order by e.tokens`;
    expect(events).toEqual([
      { agent_id: null, conversation_id: null, lane: "legacy_pending" },
      { agent_id: "a1", conversation_id: "c1", lane: "legacy_pending" },
    ]);
    expect(await runOf(runId)).toMatchObject({ status: "succeeded", booked: 2, tokens: "12" });
  });

  test("books one use of two members that differ in retry_count only", async () => {
    const acme = tenantName("acme");
    const record = pendingRecord({ tenant_id: acme });
    await world.pend(record, { ...record, retry_count: 3 });
    const runId = await world.drain();
    expect(await world.booksOf(acme)).toEqual(books("10"));
    expect(await runOf(runId)).toMatchObject({ booked: 1, duplicates: 1 });
    expect(await world.members()).toEqual([]);
  });

  test("books a use in the month it happened, across the turn of the year", async () => {
    const acme = tenantName("acme");
    const turn = Date.UTC(2027, 0, 1) / 1000;
    await world.pend(
      pendingRecord({ tenant_id: acme, tokens: 1, timestamp: turn - 0.000001 }),
      pendingRecord({ tenant_id: acme, tokens: 2, timestamp: turn }),
    );
    await world.drain({ ...world.deps, clock: { now: () => (turn + DAY_S) * 1000 } });
    const rows = await world.database.sql`
      select period, usage_period, tokens::text from worker.usage_ledger where tenant = ${acme} order by tokens`;
    expect(rows).toEqual([
      { period: 202612, usage_period: 202612, tokens: "1" },
      { period: 202701, usage_period: 202701, tokens: "2" },
    ]);
  });

  test("bills a use that claims to lie in a later month in the present one", async () => {
    const acme = tenantName("acme");
    const timestamp = Date.now() / 1000 + 40 * DAY_S;
    await world.pend(pendingRecord({ tenant_id: acme, timestamp }));
    await world.drain();
    const [row] = await world.database.sql`
      select period, usage_period, reason, lane from worker.usage_ledger where tenant = ${acme}`;
    expect(row).toEqual({
      period: periodOf(Date.now()),
      usage_period: periodOf(timestamp * 1000),
      reason: "future",
      lane: "legacy_pending",
    });
    const [total] = await world.database.sql`
      select tokens::text, future::text, legacy::text from worker.usage_totals where tenant = ${acme}`;
    expect(total).toEqual({ tokens: "10", future: "10", legacy: "10" });
  });

  test("bills a use of a closed month in the next open one", async () => {
    const acme = tenantName("acme");
    const timestamp = Date.now() / 1000 - 32 * DAY_S;
    const closed = periodOf(timestamp * 1000);
    await world.database
      .sql`insert into worker.usage_periods (period, state) values (${closed}, 'closed')`;
    try {
      await world.pend(pendingRecord({ tenant_id: acme, timestamp }));
      await world.drain();
      const [row] = await world.database.sql`
        select period, usage_period, reason from worker.usage_ledger where tenant = ${acme}`;
      expect(row).toMatchObject({ usage_period: closed, reason: "late" });
      expect(row?.["period"]).toBeGreaterThan(closed);
      const total = await world.reads.total(acme, closed, signal);
      expect(total).toMatchObject({ tokens: "0", used: "10", legacy: "10" });
    } finally {
      await world.database.sql`delete from worker.usage_periods where period = ${closed}`;
    }
  });

  test("is no part of what the counters of the log are compared with", async () => {
    const acme = tenantName("acme");
    await world.usage.record({ tenant: acme, tokens: 3 });
    await world.usage.reconcile();
    await world.pend(pendingRecord({ tenant_id: acme, tokens: 5 }));
    await world.drain();
    const total = await world.reads.total(acme, periodOf(Date.now()), signal);
    expect(total).toMatchObject({ tokens: "8", used: "8", legacy: "5" });
    const lanes = await world.database.sql`
      select lane, sum(tokens)::text as tokens from worker.usage_ledger where tenant = ${acme} group by lane order by lane`;
    expect(lanes).toEqual([
      { lane: "legacy_pending", tokens: "5" },
      { lane: "log", tokens: "3" },
    ]);
  });

  test("that is not a set fails the drain, and says so", async () => {
    await world.redis.command(["SET", PENDING_KEY, "x"], signal);
    await expect(world.drain()).rejects.toMatchObject({ code: "redis_refused" });
  });
});

describe("a scan", () => {
  test("that returns every member twice, in one page and over pages, books each once", async () => {
    const acme = tenantName("acme");
    const members = Array.from({ length: 30 }, (_, i) =>
      JSON.stringify(pendingRecord({ tenant_id: acme, tokens: i })),
    );
    await world.pend(...members);
    let turn = 0;
    const repeating = {
      ...world.deps,
      pendingSet: {
        ...world.deps.pendingSet,
        scan: async () => {
          turn += 1;
          return { cursor: turn < 3 ? String(turn) : "0", members: [...members, ...members] };
        },
      },
    };
    const runId = await world.drain(repeating);
    expect(await world.booksOf(acme)).toEqual(books("435"));
    expect(await runOf(runId)).toMatchObject({ booked: 30, duplicates: 60, tokens: "435" });
  });

  test("of four drains at once books each member once", async () => {
    const tenants = Array.from({ length: 40 }, (_, i) => tenantName(`t${i}`));
    const records = tenants.flatMap((tenant) =>
      Array.from({ length: 25 }, () => pendingRecord({ tenant_id: tenant, tokens: 3 })),
    );
    await world.pend(...records);
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        const queue: Parameters<typeof drainLegacy>[1][] = [];
        const deps = {
          ...world.deps,
          legacyQueue: { send: async (message: (typeof queue)[0]) => void queue.push(message) },
        };
        await dispatchLegacy(deps, testRun());
        for (const message of queue) await drainLegacy(deps, message, testRun());
      }),
    );
    for (const tenant of tenants) expect(await world.booksOf(tenant)).toEqual(books("75"));
    expect(await world.members()).toEqual([]);
  });

  test("that runs out of its slice goes on in a message of its own", async () => {
    const acme = tenantName("acme");
    const records = Array.from({ length: 1200 }, () =>
      pendingRecord({ tenant_id: acme, tokens: 1 }),
    );
    await world.pend(...records);
    let now = Date.now();
    const ticking = { ...world.deps, clock: { now: () => (now += 20_000) } };
    await dispatchLegacy(ticking, testRun());
    const sent: string[] = [];
    for (let message = world.queue.shift(); message !== undefined; message = world.queue.shift()) {
      sent.push(`${message.part} ${message.position.phase}`);
      await drainLegacy(ticking, message, testRun());
    }
    expect(sent.length).toBeGreaterThan(1);
    expect(sent[0]).toBe("0 pending");
    // The embedded Redis scans by position, and passes over members while others are removed: the next run has them.
    if (world.server.kind === "js-redis-server") await world.drain();
    expect(await world.booksOf(acme)).toEqual(books("1200"));
    expect(await world.members()).toEqual([]);
  });
});

describe("a Redis that is older than the drain", () => {
  test("brings members back, and nothing is booked twice", async () => {
    const acme = tenantName("acme");
    await world.pend(...Array.from({ length: 5 }, () => pendingRecord({ tenant_id: acme })));
    const before = await world.members();
    await world.drain();
    await world.server.flush();
    await world.pend(...before);
    const runId = await world.drain();
    expect(await runOf(runId)).toMatchObject({ booked: 0, duplicates: 5, tokens: "0" });
    expect(await world.booksOf(acme)).toEqual(books("50"));
    expect(await world.members()).toEqual([]);
  });
});

describe("malformed members", () => {
  test("are set aside with their raw value and lane, and never block the others", async () => {
    const acme = tenantName("acme");
    const huge = JSON.stringify(
      pendingRecord({ tenant_id: acme, metadata: "x".repeat(1_000_000) }),
    );
    await world.pend(
      pendingRecord({ tenant_id: acme, tokens: 4 }),
      "not json",
      "x\u0000y",
      pendingRecord({ tenant_id: undefined }),
      pendingRecord({ tenant_id: acme, tokens: 1.5 }),
      pendingRecord({ tenant_id: acme, tokens: -3 }),
      pendingRecord({ tenant_id: acme, tokens: 1e16 }),
      pendingRecord({ tenant_id: `${acme}\u0000` }),
      huge,
    );
    const runId = await world.drain();
    const again = await world.drain();
    expect(await world.booksOf(acme)).toEqual(books("4"));
    expect(await runOf(runId)).toMatchObject({ status: "succeeded", booked: 1, set_aside: 8 });
    expect(await runOf(again)).toMatchObject({ booked: 0, set_aside: 0 });
    const rows = await world.database.sql`
      select error, tenant, shard, n::int, tokens::text, raw from worker.usage_quarantine
       where lane = 'legacy_pending' and detected_at > now() - interval '1 minute' order by error, tokens`;
    const errors = rows.map((row) => row["error"]).sort();
    expect(errors).toEqual([
      "not_json",
      "not_json",
      "tenant",
      "tenant",
      "tokens",
      "tokens",
      "tokens",
      "too_large",
    ]);
    const mine = rows.filter((row) => row["tenant"] === acme);
    expect(new Set(mine.map((row) => row["shard"]))).toEqual(new Set([shardOf(acme)]));
    expect(rows.map((row) => row["raw"])).toContain('["legacy_pending","x\\u0000y"]');
    expect(await world.members()).toEqual([huge]); // kept in part only, so the set keeps it
  });

  test("that are too old wait for a person, who books them into the legacy lane", async () => {
    const acme = tenantName("acme");
    const timestamp = Date.now() / 1000 - 40 * DAY_S;
    await world.pend(pendingRecord({ tenant_id: acme, tokens: 6, timestamp }));
    await world.drain();
    expect(await world.booksOf(acme)).toEqual(books("0"));
    const [row] = await world.database.sql`
      select id::text, error, period from worker.usage_quarantine where tenant = ${acme}`;
    expect(row).toMatchObject({ error: "occurred_too_old", period: periodOf(timestamp * 1000) });
    const ledger = quarantineLedger(world.worker);
    const decision = { who: "ops", reason: "the producer was down" };
    const decided = await retryQuarantined(ledger, String(row?.["id"]), decision, signal);
    expect(decided).toMatchObject({ kind: "booked" });
    expect(await world.booksOf(acme)).toEqual(books("6"));
    const [booked] = await world.database.sql`
      select l.lane, b.lane as batch, t.legacy::text, t.shard from worker.usage_ledger l
        join worker.usage_batches b using (batch_id) join worker.usage_totals t on t.tenant = l.tenant
       where l.tenant = ${acme}`;
    expect(booked).toEqual({
      lane: "legacy_pending",
      batch: "legacy_pending",
      legacy: "6",
      shard: shardOf(acme),
    });
    await world.pend(pendingRecord({ tenant_id: acme, tokens: 6, timestamp }));
  });
});

describe("a run", () => {
  test("is planned by the daily reconciliation, and not when both lanes are off", async () => {
    await dispatchLegacy(world.deps, testRun());
    const [message] = world.queue.splice(0);
    expect(message).toMatchObject({ job: "drain_legacy", position: { phase: "pending" } });
    expect(await runOf(message?.runId ?? "")).toMatchObject({ status: "running" });
    const off = world.withConfig({ pendingKey: undefined, counterPattern: undefined });
    await dispatchLegacy(off, testRun());
    expect(world.queue).toEqual([]);
  });

  test("drains one lane when the other is off", async () => {
    const acme = tenantName("acme");
    await world.pend(pendingRecord({ tenant_id: acme }));
    await world.drain(world.withConfig({ pendingKey: undefined }));
    expect(await world.members()).toHaveLength(1);
    await world.drain(world.withConfig({ counterPattern: undefined }));
    expect(await world.booksOf(acme)).toEqual(books("10"));
  });

  test("that the platform gave up on has failed, and the next one books everything", async () => {
    await dispatchLegacy(world.deps, testRun());
    const [message] = world.queue.splice(0);
    await settlePoisonedLegacy(world.deps, message, testRun());
    expect(await runOf(message?.runId ?? "")).toMatchObject({
      status: "failed",
      error_code: "message_poisoned",
    });
    const run = testRun();
    await settlePoisonedLegacy(world.deps, { nonsense: true }, run);
    expect(run.lines).toMatchObject([{ event: "usage_legacy_message_unreadable" }]);
  });

  test("with many records raises an alert, with more a critical one, with few resolves it", async () => {
    const acme = tenantName("acme");
    const deps = world.withConfig({ alertThreshold: 3, criticalThreshold: 5 });
    const drainRecords = async (count: number) => {
      for (let i = 0; i < count; i += 1) await world.pend(pendingRecord({ tenant_id: acme }));
      await world.drain(deps);
      return world.alerts.get("usage_legacy_volume");
    };
    expect(await drainRecords(3)).toBeUndefined();
    expect(await drainRecords(4)).toMatchObject({ level: "warning", evidence: { records: 4 } });
    expect(await drainRecords(6)).toMatchObject({ level: "critical", evidence: { records: 6 } });
    expect(await drainRecords(0)).toBeUndefined();
  });

  test("that dies after booking still counts its records once", async () => {
    const acme = tenantName("acme");
    for (let i = 0; i < 4; i += 1) await world.pend(pendingRecord({ tenant_id: acme }));
    const deps = world.withConfig({ alertThreshold: 3, criticalThreshold: 5 });
    await dispatchLegacy(deps, testRun());
    const [message] = world.queue.splice(0);
    if (message === undefined) throw new Error("nothing was sent");
    const remove = () => Promise.reject(new Error("killed"));
    const dying = { ...deps, pendingSet: { ...deps.pendingSet, remove } };
    await expect(drainLegacy(dying, message, testRun())).rejects.toThrow("killed");
    await drainLegacy(deps, message, testRun());
    expect(await runOf(message.runId)).toMatchObject({ booked: 4, duplicates: 4 });
    expect(world.alerts.get("usage_legacy_volume")).toMatchObject({ evidence: { records: 4 } });
  });
});

test("the REST driver drains both lanes as well", async () => {
  const acme = tenantName("acme");
  const rest = await openLegacyWorld({}, (usage) => createUpstashDriver(usage.server.upstash));
  try {
    await rest.count(acme, 5);
    await rest.drain();
    await rest.pend(pendingRecord({ tenant_id: acme, tokens: 7 }), "not json");
    await rest.count(acme, 7);
    const runId = await rest.drain();
    expect(await rest.booksOf(acme)).toEqual(books("7"));
    expect(await rest.members()).toEqual([]);
    const [run] = await rest.database.sql`
      select counters, grown::text, set_aside::int from worker.usage_legacy_runs where run_id = ${runId}`;
    expect(run).toEqual({ counters: "compared", grown: "7", set_aside: 1 });
    expect(await rest.findingsOf(acme)).toEqual([]);
  } finally {
    await rest.close();
  }
});
