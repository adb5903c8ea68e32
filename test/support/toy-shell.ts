import { createRoute, z } from "@hono/zod-openapi";
import { expect } from "vitest";
import { ROLES } from "../../src/lib/kernel/api-keys.ts";
import { AppError, permanent, transient } from "../../src/lib/kernel/errors.ts";
import { createRoutes, json, needsRole, PUBLIC } from "../../src/lib/runtime/routes.http.ts";
import { createWebApp, type WebAppOptions } from "../../src/lib/runtime/web-app.http.ts";
import { type Answer, API_KEYS, SECRETS } from "./http-shell.ts";

/** The one origin that is listed. */
export const ORIGIN = "https://app.example.com";
export const MIB = 1024 * 1024;

/** What a handler may throw, by the name in the path. */
export const THROWN: Record<string, unknown> = {
  unknown: new TypeError("hunter2 is not a function", { cause: new Error("hunter2 cause") }),
  text: "hunter2",
  nothing: undefined,
  bug: new AppError("bug", "invariant_broken", { details: { what: "hunter2" } }),
  transient: transient(
    "redis_unavailable",
    { code: "hunter2", retryAfterMs: 2500 },
    new Error("hunter2"),
  ),
  patient: transient("database_unavailable"),
  refused: permanent("database_refused", { message: "hunter2" }),
  gone: permanent("usage_run_unknown"),
};

const Item = z.strictObject({
  name: z.string().min(1, "must not be empty"),
  tags: z
    .array(z.object({ key: z.string() }))
    .max(60)
    .optional(),
  any: z.unknown().optional(),
});
const returns = { 200: json("What was asked for.", z.unknown()) };
const jsonBody = { body: { required: true, content: { "application/json": { schema: Item } } } };

type ShellSettings = ReturnType<WebAppOptions["settings"]>;

/** Routes of every kind that features have. */
export function openShell(settings: ShellSettings = { apiKeys: API_KEYS, corsOrigins: [ORIGIN] }) {
  const app = createWebApp({ settings: () => settings });
  const routes = createRoutes();
  const open = createRoute({ method: "get", path: "/open", security: PUBLIC, responses: returns });
  const thing = createRoute({
    method: "get",
    path: "/things/{id}",
    security: needsRole("viewer"),
    request: {
      params: z.object({ id: z.string().max(20) }),
      query: z.object({ limit: z.coerce.number().int().max(100).default(20) }),
    },
    responses: returns,
  });
  const add = createRoute({
    method: "post",
    path: "/things",
    security: needsRole("producer"),
    request: jsonBody,
    responses: returns,
  });
  const drop = createRoute({
    method: "delete",
    path: "/things/{id}",
    security: needsRole("admin"),
    request: { params: z.object({ id: z.string() }) },
    responses: returns,
  });
  const throws = createRoute({
    method: "post",
    path: "/throw/{what}",
    security: PUBLIC,
    request: { params: z.object({ what: z.string() }) },
    responses: returns,
  });
  const hangs = createRoute({ method: "get", path: "/hang", security: PUBLIC, responses: returns });
  routes.openapi(open, (c) => c.json({ open: true }, 200));
  routes.openapi(thing, (c) =>
    c.json({ ...c.req.valid("param"), ...c.req.valid("query"), caller: c.var.caller }, 200),
  );
  routes.openapi(add, (c) => c.json({ added: c.req.valid("json").name }, 200));
  routes.openapi(drop, (c) => c.json({ dropped: c.req.valid("param").id }, 200));
  routes.openapi(throws, (c) => Promise.reject(THROWN[c.req.valid("param").what]));
  routes.openapi(hangs, (c) => {
    const { signal } = c.env.run;
    return new Promise((_resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
    });
  });
  for (const role of ROLES) {
    const route = createRoute({
      method: "get",
      path: `/for-${role}`,
      security: needsRole(role),
      responses: returns,
    });
    routes.openapi(route, (c) => c.json({ role }, 200));
  }
  app.route("/", routes);
  return app;
}

export const key = (role: keyof typeof SECRETS) => ({ "x-api-key": SECRETS[role] });
export const asProducer = { ...key("producer"), "content-type": "application/json" };

export function expectProblem(answer: Answer, status: number, code: string): void {
  expect(answer.json()).toMatchObject({
    status,
    code,
    type: `urn:worker-service:error:${code}`,
    title: expect.any(String),
    runId: expect.any(String),
  });
  expect(answer.status).toBe(status);
  expect(answer.headers.get("content-type")).toBe("application/problem+json");
}

export function expectSecureHeaders({ headers }: Answer): void {
  expect(headers.get("x-content-type-options")).toBe("nosniff");
  expect(headers.get("x-frame-options")).toBe("SAMEORIGIN");
  expect(headers.get("referrer-policy")).toBe("no-referrer");
  expect(headers.get("strict-transport-security")).toMatch(/max-age=\d{7,}/);
  expect(headers.get("content-security-policy")).toMatch(/^default-src 'none'/);
  expect(headers.get("cache-control")).toBe("no-store");
  expect(headers.has("x-powered-by")).toBe(false);
}
