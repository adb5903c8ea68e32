import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Clock } from "../kernel/clock.ts";
import { createRoutes, json, PUBLIC, type WebEnv } from "../runtime/routes.http.ts";
import type { CachedHealth } from "./cached-health.ts";
import { microseconds } from "./instants.ts";
import type { ComponentStatus, Health } from "./probe-backends.ts";

export interface ProbeDeps {
  readonly clock: Clock;
  readonly health: CachedHealth;
  readonly serviceName: string;
}

const Status = z.enum(["available", "degraded", "unavailable"]);
const HealthSchema = z
  .object({
    status: Status,
    components: z.object({ cache: Status, database: Status, scheduler: Status }),
    timestamp: z.string().openapi({ example: "2026-11-24T10:30:45.123456Z" }),
    service: z.string(),
  })
  .openapi("Health");

const Connection = z.enum(["connected", "disconnected"]);
const ReadySchema = z
  .object({ ok: z.boolean(), db: Connection, redis: Connection })
  .openapi("Readiness");

const health = createRoute({
  method: "get",
  path: "/health",
  summary: "Are cache, database and scheduler available?",
  security: PUBLIC,
  responses: {
    200: json("Available or degraded: it works.", HealthSchema),
    503: json("Cache or database does not answer.", HealthSchema),
  },
});

const healthz = createRoute({
  method: "get",
  path: "/healthz",
  summary: "Is the process alive? Asks no backend.",
  security: PUBLIC,
  responses: { 200: json("Alive.", z.object({ ok: z.literal(true) })) },
});

const readyz = createRoute({
  method: "get",
  path: "/readyz",
  summary: "Can it take work? Both backends must answer.",
  security: PUBLIC,
  responses: { 200: json("Ready.", ReadySchema), 503: json("Not ready.", ReadySchema) },
});

/** Probes for load balancers and people; anonymous, cached for at most 2 s. */
export const probeRoutes = (deps: () => ProbeDeps): OpenAPIHono<WebEnv> =>
  createRoutes()
    .openapi(health, async (c) => {
      const { clock, health: cached, serviceName } = deps();
      const { cache, database, scheduler } = await cached.read();
      const status = overallStatus({ cache, database, scheduler });
      const components = { cache, database, scheduler };
      const body = {
        status,
        components,
        timestamp: microseconds(clock.now()),
        service: serviceName,
      };
      c.header("cache-control", "no-store");
      return status === "unavailable" ? c.json(body, 503) : c.json(body, 200);
    })
    .openapi(healthz, (c) => c.json({ ok: true as const }, 200))
    .openapi(readyz, async (c) => {
      const { cache, database } = await deps().health.read();
      const body = { ok: true, db: connection(database), redis: connection(cache) };
      c.header("cache-control", "no-store");
      const isReady = body.db === "connected" && body.redis === "connected";
      return isReady ? c.json(body, 200) : c.json({ ...body, ok: false }, 503);
    });

/**
 * Unavailable only when a request could not be served. A scheduler that missed its slots is degraded: timers run in
 * other instances, and restarting this one would not help them.
 */
export function overallStatus(parts: Omit<Health, "checkedAt">): ComponentStatus {
  if (parts.cache === "unavailable" || parts.database === "unavailable") return "unavailable";
  const isAllAvailable = Object.values(parts).every((status) => status === "available");
  return isAllAvailable ? "available" : "degraded";
}

const connection = (status: ComponentStatus): "connected" | "disconnected" =>
  status === "unavailable" ? "disconnected" : "connected";
