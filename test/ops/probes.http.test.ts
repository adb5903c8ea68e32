import { describe, expect, test } from "vitest";
import type { ComponentStatus, Health } from "../../src/lib/ops/probe-backends.ts";
import { overallStatus, probeRoutes } from "../../src/lib/ops/probes.http.ts";
import { createWebApp } from "../../src/lib/runtime/web-app.http.ts";
import { sendMounted } from "../support/http-shell.ts";

const NOW = Date.parse("2026-11-24T10:30:45.123Z");
const STATUSES = ["available", "degraded", "unavailable"] as const;
const COMBINATIONS = STATUSES.flatMap((cache) =>
  STATUSES.flatMap((database) => STATUSES.map((scheduler) => ({ cache, database, scheduler }))),
);

type Parts = Omit<Health, "checkedAt">;

function openProbes(read: () => Promise<Parts>) {
  const app = createWebApp({ settings: () => ({ apiKeys: [], corsOrigins: [] }) });
  const health = { read: async () => ({ ...(await read()), checkedAt: NOW }) };
  app.route(
    "/",
    probeRoutes(() => ({ clock: { now: () => NOW }, health, serviceName: "worker-service" })),
  );
  return sendMounted(app);
}

/** As the requirements and the decision on the scheduler say it. */
function expectedOf({ cache, database, scheduler }: Parts): ComponentStatus {
  if (cache === "unavailable" || database === "unavailable") return "unavailable";
  return [cache, database, scheduler].every((it) => it === "available") ? "available" : "degraded";
}

describe("GET /health", () => {
  test("answers the documented fields and no other", async () => {
    const send = openProbes(async () => ({
      cache: "available",
      database: "available",
      scheduler: "available",
    }));
    const answer = await send("/health");
    expect(answer.status).toBe(200);
    expect(answer.headers.get("content-type")).toBe("application/json");
    expect(answer.headers.get("cache-control")).toBe("no-store");
    expect(answer.text).toBe(
      '{"status":"available","components":{"cache":"available","database":"available","scheduler":"available"},' +
        '"timestamp":"2026-11-24T10:30:45.123000Z","service":"worker-service"}',
    );
  });

  test.each(COMBINATIONS)(
    "with cache $cache, database $database, scheduler $scheduler",
    async (parts) => {
      const answer = await openProbes(async () => parts)("/health");
      const status = expectedOf(parts);
      expect(answer.json()).toMatchObject({ status, components: parts });
      expect(answer.status).toBe(status === "unavailable" ? 503 : 200);
      expect(overallStatus(parts)).toBe(status);
    },
  );

  test("is one line in the log, without a failure, also when it answers 503", async () => {
    const answer = await openProbes(async () => ({
      cache: "unavailable",
      database: "available",
      scheduler: "available",
    }))("/health");
    expect(answer.lines).toMatchObject([
      { level: "information", fields: { event: "run_done", status: 503 } },
    ]);
  });

  test("answers HEAD with the same status", async () => {
    const answer = await openProbes(async () => ({
      cache: "unavailable",
      database: "available",
      scheduler: "available",
    }))("/health", { method: "HEAD" });
    expect([answer.status, answer.text]).toEqual([503, ""]);
  });
});

describe("GET /readyz", () => {
  test.each(COMBINATIONS)("with cache $cache and database $database", async (parts) => {
    const answer = await openProbes(async () => parts)("/readyz");
    const db = parts.database === "unavailable" ? "disconnected" : "connected";
    const redis = parts.cache === "unavailable" ? "disconnected" : "connected";
    const ok = db === "connected" && redis === "connected";
    expect(answer.json()).toEqual({ ok, db, redis });
    expect(answer.status).toBe(ok ? 200 : 503);
    expect(answer.headers.get("cache-control")).toBe("no-store");
  });
});

describe("GET /healthz", () => {
  test("answers without asking any backend", async () => {
    const send = openProbes(() => Promise.reject(new Error("asked")));
    const answer = await send("/healthz");
    expect([answer.status, answer.text]).toEqual([200, '{"ok":true}']);
    expect(answer.headers.get("cache-control")).toBe("no-store");
  });
});
