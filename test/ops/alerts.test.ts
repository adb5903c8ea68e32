import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Alert } from "../../src/lib/kernel/alerts.ts";
import type { LogFields } from "../../src/lib/kernel/run.ts";
import { alertLedger, incidents } from "../../src/lib/ops/alerts.supabase.ts";
import { createAlerts } from "../../src/lib/ops/alerts.ts";
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

const signal = new AbortController().signal;
const START = Date.parse("2026-11-24T10:00:00Z");
const HOUR_MS = 3_600_000;

/** Alerts under a clock that the test sets, and the lines they wrote. */
function openAlerts() {
  const key = `test_kind:${randomUUID()}`;
  const lines: { level: string; event: string; fields: LogFields }[] = [];
  const line =
    (level: string) =>
    (event: string, fields: LogFields = {}) =>
      void lines.push({ level, event, fields });
  const time = { now: START };
  const log = { info: line("info"), warn: line("warn"), error: line("error") };
  const deps = { clock: { now: () => time.now }, alertLedger: alertLedger(api.rpc), log };
  const alerts = createAlerts(deps);
  const alert = (parts: Partial<Alert> = {}): Alert => ({
    key,
    level: "warning",
    title: "Something is wrong",
    evidence: { id: "42" },
    runbook: "docs/operations/README.md",
    ...parts,
  });
  return {
    key,
    lines,
    time,
    raise: (parts?: Partial<Alert>) => alerts.raise(alert(parts), signal),
    resolve: () => alerts.resolve(key, signal),
    /** Rows of the key, newest first. */
    rows: async () => {
      const page = await incidents(api.rpc).list({ state: "all", limit: 200 }, signal);
      return page.rows.filter((row) => row.key === key);
    },
    acknowledge: async (who = "ana") => {
      const page = await incidents(api.rpc).list({ state: "open", limit: 200 }, signal);
      const id = page.rows.find((row) => row.key === key)?.id ?? "0";
      return incidents(api.rpc).acknowledge(id, { who, reason: "on it" }, time.now, signal);
    },
    notices: async () => {
      const rows = await database.sql`
        select n.reason, n.level from worker.alert_notices n join worker.alerts a on a.id = n.alert_id
         where a.key = ${key} order by n.id`;
      return rows.map((row) => `${row["reason"]} ${row["level"]}`);
    },
  };
}

type Step =
  | { readonly raise: Partial<Alert>; readonly afterHours?: number }
  | { readonly resolve: true; readonly afterHours?: number }
  | { readonly acknowledge: true; readonly afterHours?: number };

const CASES: readonly {
  readonly name: string;
  readonly steps: readonly Step[];
  readonly notices: readonly string[];
  readonly state: string;
  readonly count: string;
}[] = [
  {
    name: "an incident is told once, however often it is reported",
    steps: [{ raise: {} }, { raise: {}, afterHours: 1 }, { raise: {}, afterHours: 22 }],
    notices: ["new warning"],
    state: "firing",
    count: "3",
  },
  {
    name: "it is told again after a day, and a day after that",
    steps: [{ raise: {} }, { raise: {}, afterHours: 24 }, { raise: {}, afterHours: 24 }],
    notices: ["new warning", "reminder warning", "reminder warning"],
    state: "firing",
    count: "3",
  },
  {
    name: "it is told again at once when its level rises, and not when it falls",
    steps: [
      { raise: { level: "info" } },
      { raise: { level: "critical" } },
      { raise: { level: "warning" } },
      { raise: { level: "critical" } },
    ],
    notices: ["new info", "level critical"],
    state: "firing",
    count: "4",
  },
  {
    name: "it is told again when its value doubled since it was told last",
    steps: [
      { raise: { value: "1000" } },
      { raise: { value: "1999" } },
      { raise: { value: "2000" } },
      { raise: { value: "3999" } },
      { raise: { value: "4000" } },
    ],
    notices: ["new warning", "doubled warning", "doubled warning"],
    state: "firing",
    count: "5",
  },
  {
    name: "a value beyond 2^53 is compared exactly",
    steps: [
      { raise: { value: "9007199254740993" } },
      { raise: { value: "18014398509481985" } },
      { raise: { value: "18014398509481986" } },
    ],
    notices: ["new warning", "doubled warning"],
    state: "firing",
    count: "3",
  },
  {
    name: "one that somebody takes care of keeps quiet, for days",
    steps: [
      { raise: { value: "10" } },
      { acknowledge: true },
      { raise: { value: "15" }, afterHours: 25 },
      { raise: { value: "15" }, afterHours: 25 },
    ],
    notices: ["new warning"],
    state: "acknowledged",
    count: "3",
  },
  {
    name: "one that somebody takes care of fires again when it gets worse",
    steps: [
      { raise: { value: "10" } },
      { acknowledge: true },
      { raise: { value: "20" } },
      { acknowledge: true },
      { raise: { value: "20", level: "critical" } },
    ],
    notices: ["new warning", "doubled warning", "level critical"],
    state: "firing",
    count: "3",
  },
  {
    name: "its end is told once",
    steps: [{ raise: {} }, { resolve: true }, { resolve: true }],
    notices: ["new warning", "resolved warning"],
    state: "resolved",
    count: "1",
  },
  {
    name: "one that somebody takes care of ends like any other",
    steps: [{ raise: {} }, { acknowledge: true }, { resolve: true }],
    notices: ["new warning", "resolved warning"],
    state: "resolved",
    count: "1",
  },
  {
    name: "what comes back after its end is a new incident",
    steps: [{ raise: {} }, { resolve: true }, { raise: {}, afterHours: 1 }],
    notices: ["new warning", "resolved warning", "new warning"],
    state: "firing",
    count: "1",
  },
];

describe("an incident", () => {
  test.each(CASES)("$name", async ({ steps, notices, state, count }) => {
    const world = openAlerts();
    for (const step of steps) {
      world.time.now += (step.afterHours ?? 0) * HOUR_MS;
      if ("raise" in step) await world.raise(step.raise);
      else if ("resolve" in step) await world.resolve();
      else await world.acknowledge();
    }
    expect(await world.notices()).toEqual(notices);
    const [newest] = await world.rows();
    expect(newest).toMatchObject({ state, count });
  });

  test("writes a line for each notice, by its level, and none for other reports", async () => {
    const world = openAlerts();
    await world.raise({ value: "3", threshold: "2" });
    await world.raise({ value: "3" });
    await world.raise({ level: "critical" });
    await world.resolve();
    expect(world.lines).toMatchObject([
      {
        level: "warn",
        event: "alert_raised",
        fields: {
          key: world.key,
          notice: "new",
          value: "3",
          threshold: "2",
          evidence: { id: "42" },
        },
      },
      { level: "error", event: "alert_raised", fields: { notice: "level", level: "critical" } },
      { level: "info", event: "alert_resolved", fields: { key: world.key, count: "3" } },
    ]);
  });

  test("of which nobody heard cannot end", async () => {
    const world = openAlerts();
    await world.resolve();
    expect(world.lines).toEqual([]);
    expect(await world.rows()).toEqual([]);
  });

  test("reported by many at once is one, told once", async () => {
    const world = openAlerts();
    await Promise.all(Array.from({ length: 12 }, () => world.raise()));
    expect(await world.notices()).toEqual(["new warning"]);
    expect(await world.rows()).toMatchObject([{ count: "12" }]);
    expect(world.lines).toHaveLength(1);
  });

  test("reported and ended at once is whole at any moment", async () => {
    const world = openAlerts();
    await Promise.all(
      Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? world.raise() : world.resolve())),
    );
    const rows = await world.rows();
    expect(rows.filter(({ state }) => state !== "resolved").length).toBeLessThanOrEqual(1);
    const reports = rows.reduce((sum, { count }) => sum + Number(count), 0);
    expect(reports).toBe(10);
    const notices = await world.notices();
    expect(notices.filter((notice) => notice === "new warning")).toHaveLength(rows.length);
  });

  test("is taken care of by the first who says so", async () => {
    const world = openAlerts();
    await world.raise();
    expect(await world.acknowledge("ana")).toMatchObject({ status: "acknowledged", who: "ana" });
    expect(await world.acknowledge("ben")).toMatchObject({ status: "already", who: "ana" });
    expect(await world.rows()).toMatchObject([
      { state: "acknowledged", acknowledgedBy: "ana", acknowledgedReason: "on it" },
    ]);
  });

  test("that is over makes room after more than a year", async () => {
    const old = openAlerts();
    await old.raise();
    await old.resolve();
    const young = openAlerts();
    young.time.now = START + 401 * 24 * HOUR_MS;
    await young.raise();
    expect(await old.rows()).toEqual([]);
    expect(await old.notices()).toEqual([]);
  });

  test("with a level nobody knows, or a key that is no key, is refused", async () => {
    const refused = { code: "database_refused" };
    const world = openAlerts();
    await expect(world.raise({ level: "panic" as never })).rejects.toMatchObject(refused);
    await expect(world.raise({ key: "" })).rejects.toMatchObject(refused);
    await expect(world.raise({ key: ":no-kind" })).rejects.toMatchObject(refused);
  });
});

describe("the list of incidents", () => {
  test("shows what is open, newest first, by level and kind, page by page", async () => {
    const kind = `kind_${randomUUID().slice(0, 8)}`;
    const keys = ["a", "b", "c", "d"].map((name) => `${kind}:${name}`);
    const world = openAlerts();
    for (const [i, key] of keys.entries()) {
      await world.raise({ key, level: i === 0 ? "critical" : "warning" });
    }
    const list = (filter: object) =>
      incidents(api.rpc).list({ state: "open", limit: 200, kind, ...filter }, signal);
    const first = await list({ limit: 3 });
    expect(first.rows.map(({ key }) => key)).toEqual([keys[3], keys[2], keys[1]]);
    const second = await list({ limit: 3, before: first.next ?? undefined });
    expect(second).toMatchObject({ rows: [{ key: keys[0], kind }], next: null });
    expect((await list({ level: "critical" })).rows).toMatchObject([{ key: keys[0] }]);
    expect((await list({ state: "resolved" })).rows).toEqual([]);
  });
});
