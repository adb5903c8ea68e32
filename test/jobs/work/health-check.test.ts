import { describe, expect, test } from "vitest";
import type { JobRun } from "../../../src/lib/jobs/job.ts";
import { checkHealth, type HealthPart } from "../../../src/lib/jobs/work/health-check.ts";
import { permanent } from "../../../src/lib/kernel/errors.ts";

const log = { info: () => {}, warn: () => {}, error: () => {} };
const run = (signal = new AbortController().signal): JobRun => ({
  name: "healthCheck",
  id: "1",
  log,
  signal,
  note: () => {},
  jobId: "health_check",
  runId: "r",
  fence: 1,
  slotAt: undefined,
  progress: () => {},
});
const part = (name: string, check: HealthPart["check"]): HealthPart => ({ name, check });
const fine = part("fine", async () => ({ seen: 3 }));
const health = { cache: "available", database: "degraded" };

describe("health_check", () => {
  test("reports each part, and what /health says at the top", async () => {
    const probes = part("probes", async () => ({ health }));
    const report = await checkHealth({ healthParts: [probes, fine], healthNotify: [] }, run());
    expect(report).toMatchObject({
      health,
      failed: [],
      parts: { probes: { ok: true, health }, fine: { ok: true, seen: 3 } },
    });
  });

  test.each([
    [
      "throws at once",
      () => {
        throw new Error("broken");
      },
      "unclassified",
    ],
    ["fails with a code", () => Promise.reject(permanent("database_refused")), "database_refused"],
  ])("goes on when a part %s", async (_, check, code) => {
    const told = part("notices", async () => ({ sent: 1 }));
    const deps = { healthParts: [part("bad", check), fine], healthNotify: [told] };
    expect(await checkHealth(deps, run())).toMatchObject({
      failed: ["bad"],
      parts: { bad: { ok: false, code }, fine: { ok: true }, notices: { ok: true, sent: 1 } },
    });
  });

  test("ends a part that never does, and the part sees it", async () => {
    const stop = new AbortController();
    let seen: AbortSignal | undefined;
    const stuck = part("stuck", (its) => {
      seen = its.signal;
      return new Promise(() => {});
    });
    const working = checkHealth({ healthParts: [stuck, fine], healthNotify: [] }, run(stop.signal));
    await new Promise((resolve) => setImmediate(resolve)); // the fine one is done
    stop.abort();
    expect(await working).toMatchObject({ failed: ["stuck"], parts: { fine: { ok: true } } });
    expect(seen?.aborted).toBe(true);
  });

  test("tells people after everything was looked at", async () => {
    const order: string[] = [];
    const slow = part("slow", async () => {
      await new Promise((resolve) => setImmediate(resolve));
      order.push("slow");
      return {};
    });
    const told = part("notices", async () => {
      order.push("notices");
      return {};
    });
    await checkHealth({ healthParts: [slow], healthNotify: [told] }, run());
    expect(order).toEqual(["slow", "notices"]);
  });

  test("keeps its report small, whatever a part says", async () => {
    const loud = part("loud", async () => ({ text: "x".repeat(100_000) }));
    const report = await checkHealth({ healthParts: [loud], healthNotify: [] }, run());
    expect(JSON.stringify(report).length).toBeLessThan(16_384);
    expect(report).toMatchObject({ parts: { loud: { ok: true, cut: ["text"] } } });
  });
});
