import { describe, expect, test } from "vitest";
import type { Alerts } from "../../src/lib/kernel/alerts.ts";
import type { Run } from "../../src/lib/kernel/run.ts";
import { alertAboutHealth } from "../../src/lib/ops/health-alerts.ts";
import type { Health } from "../../src/lib/ops/probe-backends.ts";

const log = { info: () => {}, warn: () => {}, error: () => {} };
const signal = new AbortController().signal;
const run: Run = { name: "healthCheck", id: "1", log, signal, note: () => {} };
const FINE: Health = {
  cache: "available",
  database: "available",
  scheduler: "available",
  checkedAt: 0,
};

/** What is told while `/health` answers one thing after the other; the last stands. */
async function tell(...answers: readonly Partial<Health>[]) {
  const told: string[] = [];
  let reads = 0;
  const alerts: Alerts = {
    raise: async ({ key, level }) => void told.push(`${key} ${level}`),
    resolve: async (key) => void told.push(`${key} over`),
  };
  const health = {
    read: async () => {
      const answer = answers[Math.min(reads, answers.length - 1)];
      reads += 1;
      return { ...FINE, ...answer };
    },
  };
  const report = await alertAboutHealth({ health, alerts, sleep: async () => {} }, run);
  return { told, reads, health: report.health };
}

describe("what /health says", () => {
  test("resolves what is available", async () => {
    const { told } = await tell({});
    expect(told).toEqual([
      "component_unavailable:cache over",
      "component_unavailable:database over",
      "component_unavailable:scheduler over",
    ]);
  });

  test("is an alert when it stays so, and for that component alone", async () => {
    const { told, reads, health } = await tell({ database: "unavailable" });
    expect(told).toContain("component_unavailable:database critical");
    expect(told.filter((line) => line.endsWith("critical"))).toHaveLength(1);
    expect(reads).toBe(4);
    expect(health).toEqual({ cache: "available", database: "unavailable", scheduler: "available" });
  });

  test("of a process that has just started is no alert", async () => {
    const { told, health } = await tell({ cache: "unavailable" }, { cache: "unavailable" }, {});
    expect(told).toContain("component_unavailable:cache over");
    expect(health).toMatchObject({ cache: "available" });
  });

  test("neither raises nor resolves while it is slow", async () => {
    const { told, health } = await tell({ cache: "degraded" });
    expect(told.filter((line) => line.includes("cache"))).toEqual([]);
    expect(health).toMatchObject({ cache: "degraded" });
  });
});
