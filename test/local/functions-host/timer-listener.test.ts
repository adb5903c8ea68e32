import { readFileSync, writeFileSync } from "node:fs";
import { setImmediate as tick } from "node:timers/promises";
import { expect, test } from "vitest";
import { hostFunctions, isTriggeredBy } from "../../../local/functions-host/hosted-function.ts";
import type { TimerInfo } from "../../../local/functions-host/rpc-data.ts";
import { createTimerListener } from "../../../local/functions-host/timer-listener.ts";
import {
  type TimerStatusStore,
  timerStatusFile,
} from "../../../local/functions-host/timer-status.ts";
import { keptLog, tempDir } from "./support.ts";

const HOURLY = "0 0 * * * *";
const NEVER = "0001-01-01T00:00:00+00:00";

/** A clock that stands still until it is moved, and then calls back whatever is due. */
function fakeTime(start: string) {
  let now = Date.parse(start);
  let waits: { at: number; callback: () => void }[] = [];
  const due = (until: number) =>
    waits.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
  return {
    now: () => new Date(now),
    wait: (ms: number, callback: () => void) => {
      const wait = { at: now + ms, callback };
      waits.push(wait);
      return () => {
        waits = waits.filter((it) => it !== wait);
      };
    },
    advanceTo: async (to: string) => {
      const until = Date.parse(to);
      for (let next = due(until); next !== undefined; next = due(until)) {
        const current = next;
        waits = waits.filter((it) => it !== current);
        now = Math.max(now, current.at);
        current.callback();
        await tick();
      }
      now = until;
    },
    /** Time passes and nothing is called back, as in a computer that sleeps. */
    sleepFor: (ms: number) => {
      now += ms;
    },
    /** What waits is called back this much too early. */
    hurry: (ms: number) => {
      waits = waits.map(({ at, callback }) => ({ at: at - ms, callback }));
    },
    waiting: () => waits.length,
  };
}

interface Scenario {
  readonly schedule?: string;
  readonly runOnStartup?: boolean;
  readonly useMonitor?: boolean;
  readonly start: string;
  readonly store?: TimerStatusStore;
  readonly handler?: () => Promise<void>;
}

function scenario(given: Scenario) {
  const { schedule = HOURLY, runOnStartup = false, useMonitor = true, start } = given;
  const trigger = {
    type: "timerTrigger",
    direction: "in",
    schedule,
    runOnStartup,
    useMonitor,
  } as const;
  const metadata = { name: "nightly", bindings: { trigger } };
  const [fn] = hostFunctions(
    [{ id: "nightly", metadata, callback: () => {} }],
    undefined,
    {},
  ).filter(isTriggeredBy("timer"));
  if (fn === undefined) throw new Error("no timer");
  const time = fakeTime(start);
  const store = given.store ?? timerStatusFile(`${tempDir()}/status/timers.json`);
  const runs: { at: string; info: TimerInfo }[] = [];
  const log = keptLog();
  const listener = createTimerListener(fn, {
    invoke: async (_fn, info) => {
      runs.push({ at: time.now().toISOString(), info });
      await given.handler?.();
    },
    track: (work) => void work,
    store,
    now: time.now,
    wait: time.wait,
    log: (level, message) => log.logger({ at: time.now(), level, message, category: "" }),
  });
  listener.start();
  return { listener, time, store, runs, log, runsAt: () => runs.map(({ at }) => at) };
}

test("a timer runs at its occurrences and remembers them", async () => {
  const { time, runs, store, runsAt } = scenario({ start: "2026-03-01T09:30:00Z" });
  await time.advanceTo("2026-03-01T11:30:00Z");
  expect(runsAt()).toEqual(["2026-03-01T10:00:00.000Z", "2026-03-01T11:00:00.000Z"]);
  expect(runs[1]?.info).toEqual({
    Schedule: { AdjustForDST: true },
    ScheduleStatus: {
      Last: "2026-03-01T10:00:00.000+00:00",
      Next: "2026-03-01T11:00:00.000+00:00",
      LastUpdated: "2026-03-01T10:00:00.000+00:00",
    },
    IsPastDue: false,
  });
  expect(store.read("nightly")).toEqual({
    last: new Date("2026-03-01T11:00:00Z"),
    next: new Date("2026-03-01T12:00:00Z"),
    lastUpdated: new Date("2026-03-01T11:00:00Z"),
  });
});

test("a first start is not past due, and says that the timer never ran", async () => {
  const { time, runs } = scenario({ start: "2026-03-01T09:30:00Z" });
  await tick();
  expect(runs).toEqual([]);
  await time.advanceTo("2026-03-01T10:00:00Z");
  expect(runs[0]?.info.ScheduleStatus?.Last).toBe(NEVER);
});

test("however many occurrences were missed, a restart runs once, past due, and at once", async () => {
  const before = scenario({ start: "2026-03-01T09:30:00Z" });
  await before.time.advanceTo("2026-03-01T10:00:00Z");
  before.listener.stop();
  const after = scenario({ start: "2026-03-02T15:20:00Z", store: before.store });
  await tick();
  expect(after.runs).toMatchObject([{ at: "2026-03-02T15:20:00.000Z", info: { IsPastDue: true } }]);
  await after.time.advanceTo("2026-03-02T16:00:00Z");
  expect(after.runs).toMatchObject([
    {},
    { at: "2026-03-02T16:00:00.000Z", info: { IsPastDue: false } },
  ]);
});

test("a restart before the next occurrence runs nothing", async () => {
  const before = scenario({ start: "2026-03-01T09:30:00Z" });
  await before.time.advanceTo("2026-03-01T10:10:00Z");
  before.listener.stop();
  const after = scenario({ start: "2026-03-01T10:20:00Z", store: before.store });
  await after.time.advanceTo("2026-03-01T10:59:59Z");
  expect(after.runs).toEqual([]);
});

test("a changed schedule is never past due", async () => {
  const before = scenario({ start: "2026-03-01T09:30:00Z" });
  await before.time.advanceTo("2026-03-01T10:00:00Z");
  before.listener.stop();
  const schedule = "0 30 * * * *";
  const after = scenario({ schedule, start: "2026-03-02T15:20:00Z", store: before.store });
  await after.time.advanceTo("2026-03-02T15:30:00Z");
  expect(after.runs).toMatchObject([
    {
      at: "2026-03-02T15:30:00.000Z",
      info: { IsPastDue: false, ScheduleStatus: { Last: NEVER } },
    },
  ]);
});

test.each([
  ["more than once a minute", { schedule: "*/20 * * * * *" }],
  ["without a monitor", { useMonitor: false }],
])("a timer %s keeps no status and is never past due", async (_what, options) => {
  const before = scenario({ ...options, start: "2026-03-01T09:59:50Z" });
  await before.time.advanceTo("2026-03-01T10:00:00Z");
  expect(before.runs).toMatchObject([{ info: { ScheduleStatus: null } }]);
  before.listener.stop();
  const after = scenario({ ...options, start: "2026-03-02T15:20:05Z", store: before.store });
  await after.time.advanceTo("2026-03-02T15:20:10Z");
  expect([after.runs, before.store.read("nightly")]).toEqual([[], undefined]);
});

test("runOnStartup runs at every start, but past due comes first", async () => {
  const first = scenario({ runOnStartup: true, start: "2026-03-01T09:30:00Z" });
  await tick();
  expect(first.runs).toMatchObject([{ info: { IsPastDue: false } }]);
  first.listener.stop();
  const options = { runOnStartup: true, store: first.store };
  const second = scenario({ ...options, start: "2026-03-01T09:40:00Z" });
  const late = scenario({ ...options, start: "2026-03-01T12:40:00Z" });
  await tick();
  expect(second.runs).toMatchObject([{ info: { IsPastDue: false } }]);
  expect(late.runs).toMatchObject([{ info: { IsPastDue: true } }]);
});

test("a run longer than its period is followed at once by exactly one more, and none overlaps", async () => {
  let finish = () => {};
  const handler = () =>
    new Promise<void>((resolve) => {
      finish = resolve;
    });
  const { time, runsAt } = scenario({ start: "2026-03-01T09:30:00Z", handler });
  await time.advanceTo("2026-03-01T13:30:00Z");
  expect(runsAt()).toEqual(["2026-03-01T10:00:00.000Z"]);
  finish();
  await tick();
  await time.advanceTo("2026-03-01T13:30:01Z");
  expect(runsAt()).toHaveLength(2);
  finish();
  await tick();
  await time.advanceTo("2026-03-01T13:59:59Z");
  expect(runsAt()).toHaveLength(2);
  await time.advanceTo("2026-03-01T14:00:00Z");
  expect(runsAt().at(-1)).toBe("2026-03-01T14:00:00.000Z");
});

test("a run that fires a little early counts from its planned instant", async () => {
  const run = scenario({ start: "2026-03-01T09:59:59.500Z" });
  run.time.hurry(100);
  await run.time.advanceTo("2026-03-01T10:00:00.200Z");
  await run.time.advanceTo("2026-03-01T10:59:00Z");
  expect(run.runsAt()).toEqual(["2026-03-01T09:59:59.900Z"]);
  expect(run.store.read("nightly")?.next).toEqual(new Date("2026-03-01T11:00:00Z"));
});

test("a failing run does not disturb the schedule", async () => {
  const handler = () => Promise.reject(new Error("broken"));
  const { time, runsAt } = scenario({ start: "2026-03-01T09:30:00Z", handler });
  await time.advanceTo("2026-03-01T11:00:00Z");
  expect(runsAt()).toEqual(["2026-03-01T10:00:00.000Z", "2026-03-01T11:00:00.000Z"]);
});

test("a stopped timer plans nothing more, but stores the run that was under way", async () => {
  let finish = () => {};
  const handler = () =>
    new Promise<void>((resolve) => {
      finish = resolve;
    });
  const { listener, time, store } = scenario({ start: "2026-03-01T09:30:00Z", handler });
  await time.advanceTo("2026-03-01T10:00:00Z");
  listener.stop();
  finish();
  await tick();
  expect(time.waiting()).toBe(0);
  expect(store.read("nightly")?.last).toEqual(new Date("2026-03-01T10:00:00Z"));
});

test("a computer that slept through an occurrence runs it soon after it wakes", async () => {
  const { time, runsAt } = scenario({ start: "2026-03-01T09:30:00Z" });
  time.sleepFor(6 * 3_600_000);
  await time.advanceTo("2026-03-01T15:31:00Z");
  expect(runsAt()).toHaveLength(1);
});

test("the next five occurrences are logged", () => {
  const { log } = scenario({ start: "2026-03-01T22:30:00Z" });
  expect(log.entries[0]?.message).toBe(
    "The next 5 occurrences of '0 0 * * * *' (UTC): 2026-03-01T23:00:00.000Z, 2026-03-02T00:00:00.000Z, 2026-03-02T01:00:00.000Z, 2026-03-02T02:00:00.000Z, 2026-03-02T03:00:00.000Z",
  );
});

test("the file keeps the status of other timers and carries the names of Azure", () => {
  const file = `${tempDir()}/timers.json`;
  const status = { last: undefined, next: new Date(0), lastUpdated: new Date(1000) };
  timerStatusFile(file).write("a", status);
  timerStatusFile(file).write("b", { ...status, last: new Date(2000) });
  expect(timerStatusFile(file).read("a")).toEqual(status);
  expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({
    "Host.Functions.a": { Last: NEVER, Next: "1970-01-01T00:00:00.000+00:00" },
    "Host.Functions.b": { Last: "1970-01-01T00:00:02.000+00:00" },
  });
});

test("a status that is not one counts as absent, and a file that is not JSON stops the start", () => {
  const file = `${tempDir()}/timers.json`;
  writeFileSync(file, '{"Host.Functions.a":{"Next":"never"},"Host.Functions.b":7}');
  expect(timerStatusFile(file).read("a")).toBeUndefined();
  expect(timerStatusFile(file).read("b")).toBeUndefined();
  writeFileSync(file, "{");
  expect(() => timerStatusFile(file).read("a")).toThrow("timers.json is not JSON");
});

test("a status that cannot be stored is logged and does not stop the timer", async () => {
  const store: TimerStatusStore = {
    read: () => undefined,
    write: () => {
      throw new Error("disk full");
    },
  };
  const { time, runsAt, log } = scenario({ start: "2026-03-01T09:30:00Z", store });
  await time.advanceTo("2026-03-01T11:00:00Z");
  expect(runsAt()).toHaveLength(2);
  expect(log.entries.filter(({ level }) => level === "error")[0]?.message).toContain("disk full");
});
