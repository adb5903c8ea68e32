import { InvocationContext, type LogLevel } from "@azure/functions";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { AppError, permanent, transient } from "../../src/lib/kernel/errors.ts";
import type { ActiveRun } from "../../src/lib/kernel/run.ts";
import { runTrigger } from "../../src/lib/runtime/run-trigger.ts";

interface Line {
  readonly level: LogLevel;
  readonly fields: Record<string, unknown>;
}

/** A real context of the library whose log is kept. */
function invocation() {
  const lines: Line[] = [];
  const context = new InvocationContext({
    functionName: "processShard",
    invocationId: "run-1",
    logHandler: (level, ...args) =>
      void lines.push({ level, fields: JSON.parse(args.map(String).join(" ")) }),
  });
  return { context, lines };
}

const fails = (error: unknown) => () => Promise.reject(error);

describe("a run that succeeds", () => {
  test("writes one line with function, run id, notes and duration, and hands on the result", async () => {
    const { context, lines } = invocation();
    const result = await runTrigger(context, async (run) => {
      run.note({ booked: 1 });
      run.note({ booked: 2, shard: 7 });
      return "result";
    });
    expect(result).toBe("result");
    expect(lines).toEqual([
      {
        level: "information",
        fields: {
          event: "run_done",
          function: "processShard",
          runId: "run-1",
          booked: 2,
          shard: 7,
          durationMs: expect.any(Number),
        },
      },
    ]);
  });

  test("writes no line when the caller calls it routine, and still writes the failures", async () => {
    const { context, lines } = invocation();
    const isRoutine = ({ status }: Readonly<Record<string, unknown>>) => status === 200;
    const answer = (status: number) => async (run: ActiveRun) => run.note({ status });
    await runTrigger(context, answer(200), { isRoutine });
    await runTrigger(context, answer(503), { isRoutine });
    await expect(runTrigger(context, fails(new Error("no")), { isRoutine })).rejects.toThrow("no");
    expect(lines.map(({ fields }) => [fields["event"], fields["status"]])).toEqual([
      ["run_done", 503],
      ["run_failed", undefined],
    ]);
  });

  test("shows the feature who runs", async () => {
    const { context } = invocation();
    await runTrigger(context, async ({ name, id, signal }) => {
      expect([name, id, signal.aborted]).toEqual(["processShard", "run-1", false]);
    });
  });

  test("writes the lines of the feature with function and run id", async () => {
    const { context, lines } = invocation();
    await runTrigger(context, async (run) => run.log.warn("shard_slow", { text: "100 %s %d" }));
    expect(lines[0]).toEqual({
      level: "warning",
      fields: { event: "shard_slow", function: "processShard", runId: "run-1", text: "100 %s %d" },
    });
  });
});

describe("a run that fails", () => {
  test.each([
    {
      error: permanent("request_invalid"),
      level: "warning",
      kind: "permanent",
      code: "request_invalid",
    },
    {
      error: permanent("database_refused"),
      level: "error",
      kind: "permanent",
      code: "database_refused",
    },
    {
      error: transient("redis_unavailable"),
      level: "error",
      kind: "transient",
      code: "redis_unavailable",
    },
    {
      error: new AppError("bug", "invariant_broken"),
      level: "error",
      kind: "bug",
      code: "invariant_broken",
    },
    {
      error: new TypeError("x is undefined"),
      level: "error",
      kind: "transient",
      code: "unclassified",
    },
  ])(
    "writes one line at $level for $code and hands the same error to the host",
    async ({ error, level, kind, code }) => {
      const { context, lines } = invocation();
      await expect(runTrigger(context, fails(error))).rejects.toBe(error);
      expect(lines).toHaveLength(1);
      expect(lines[0]).toMatchObject({ level, fields: { event: "run_failed", kind, code } });
    },
  );

  test("keeps its notes, and its own kind and code whatever notes and details are called", async () => {
    const { context, lines } = invocation();
    const error = permanent("redis_refused", { code: "WRONGTYPE", kind: "x" });
    const run = runTrigger(context, async (active) => {
      active.note({ shard: 7, code: "forged", event: "forged", runId: "forged" });
      throw error;
    });
    await expect(run).rejects.toBe(error);
    expect(lines[0]?.fields).toMatchObject({
      event: "run_failed",
      runId: "run-1",
      shard: 7,
      code: "redis_refused",
      details: { code: "WRONGTYPE", kind: "x" },
    });
  });

  test("names the cause, and the stack only of what nobody expected", async () => {
    const { context, lines } = invocation();
    const cause = new Error("socket hang up");
    const expected = transient("redis_unavailable", {}, cause);
    await expect(runTrigger(context, fails(expected))).rejects.toBe(expected);
    expect(lines[0]?.fields).toMatchObject({ cause: "Error: socket hang up" });
    expect(lines[0]?.fields).not.toHaveProperty("stack");
    await expect(runTrigger(context, fails(new Error("surprise")))).rejects.toThrow("surprise");
    expect(lines[1]?.fields["stack"]).toContain("run-trigger.test.ts");
  });

  test.each(["text with hunter2", undefined, null, 7, { secret: "hunter2" }])(
    "makes an error of the thrown value %o, without its content",
    async (thrown) => {
      const { context, lines } = invocation();
      const run = runTrigger(context, fails(thrown));
      await expect(run).rejects.toBeInstanceOf(Error);
      expect(lines[0]?.fields).toMatchObject({ kind: "transient", code: "unclassified" });
      expect(JSON.stringify(lines)).not.toContain("hunter2");
    },
  );

  test("fails in the same way when the body throws before its first await", async () => {
    const { context, lines } = invocation();
    const throwsAtOnce = (): Promise<void> => {
      throw new AppError("bug", "invariant_broken");
    };
    await expect(runTrigger(context, throwsAtOnce)).rejects.toMatchObject({ kind: "bug" });
    expect(lines).toHaveLength(1);
  });
});

describe("finish", () => {
  test("writes the line once: the first one wins", async () => {
    const { context, lines } = invocation();
    await runTrigger(context, async (run) => {
      run.finish({
        kind: "permanent",
        code: "route_unknown",
        details: {},
        error: permanent("route_unknown"),
        isCallers: true,
      });
      run.finish();
      run.note({ late: true });
    });
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({ level: "warning", fields: { event: "run_failed" } });
  });

  test("does not write again when the run fails after it", async () => {
    const { context, lines } = invocation();
    const run = runTrigger(context, async (active) => {
      active.finish();
      throw new Error("after the end");
    });
    await expect(run).rejects.toThrow("after the end");
    expect(lines.map(({ fields }) => fields["event"])).toEqual(["run_done"]);
  });
});

describe("settle", () => {
  test("gets the failure and the run, and its result is the result", async () => {
    const { context, lines } = invocation();
    const error = permanent("message_invalid");
    const result = await runTrigger(context, fails(error), {
      settle: async (failure, run) => `${run.name}: ${failure.code}`,
    });
    expect(result).toBe("processShard: message_invalid");
    expect(lines.map(({ fields }) => fields["event"])).toEqual(["run_failed"]);
  });

  test("is not asked when the run succeeds", async () => {
    const { context } = invocation();
    const settle = () => Promise.reject(new Error("not asked"));
    await expect(runTrigger(context, async () => 1, { settle })).resolves.toBe(1);
  });

  test("that fails hands its error to the host, so that the message survives", async () => {
    const { context } = invocation();
    const settle = () => Promise.reject(new Error("cannot store the fate"));
    await expect(runTrigger(context, fails(new Error("first")), { settle })).rejects.toThrow(
      "cannot store the fate",
    );
  });

  test("writes lines of the same run", async () => {
    const { context, lines } = invocation();
    await runTrigger(context, fails(new Error("x")), {
      settle: async (_failure, run) => run.log.error("item_dead", { attempt: 5 }),
    });
    expect(lines[1]?.fields).toMatchObject({ event: "item_dead", runId: "run-1" });
  });
});

describe("the deadline", () => {
  beforeEach(() => vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] }));
  afterEach(() => vi.useRealTimers());

  /** Ends when the signal does, as a good adapter would. */
  const untilAborted = (run: Pick<ActiveRun, "signal">) =>
    new Promise<never>((_resolve, reject) => {
      run.signal.addEventListener("abort", () => reject(run.signal.reason));
    });

  test("aborts the signal below the ten minutes of the host, with a transient error as its reason", async () => {
    const { context, lines } = invocation();
    const run = runTrigger(context, untilAborted);
    const outcome = expect(run).rejects.toMatchObject({
      code: "deadline_exceeded",
      kind: "transient",
    });
    await vi.advanceTimersByTimeAsync(539_999);
    expect(lines).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    await outcome;
    expect(lines[0]?.fields).toMatchObject({ code: "deadline_exceeded", details: { ms: 540_000 } });
  });

  test("can be shorter", async () => {
    const { context } = invocation();
    const run = runTrigger(context, untilAborted, { deadlineMs: 50 });
    const outcome = expect(run).rejects.toMatchObject({ details: { ms: 50 } });
    await vi.advanceTimersByTimeAsync(50);
    await outcome;
  });

  test("leaves settle 30 s of its own", async () => {
    const { context } = invocation();
    const states: boolean[] = [];
    const run = runTrigger(context, untilAborted, {
      deadlineMs: 50,
      settle: async (_failure, settling) => {
        states.push(settling.signal.aborted);
        await untilAborted(settling);
      },
    });
    const outcome = expect(run).rejects.toMatchObject({ details: { ms: 30_000 } });
    await vi.advanceTimersByTimeAsync(50);
    expect(states).toEqual([false]);
    await vi.advanceTimersByTimeAsync(30_000);
    await outcome;
  });

  test("leaves no timer behind, whatever the end", async () => {
    const { context } = invocation();
    await runTrigger(context, async () => {});
    await runTrigger(context, fails(new Error("x"))).catch(() => {});
    await runTrigger(context, fails(new Error("x")), { settle: async () => {} });
    expect(vi.getTimerCount()).toBe(0);
  });
});
