import type { HttpHandler, HttpMethod, HttpRequest, HttpResponseInit } from "@azure/functions";
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Context, MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { cors } from "hono/cors";
import { HTTPException } from "hono/http-exception";
import { secureHeaders } from "hono/secure-headers";
import { type ApiKey, findApiKey, isGranted } from "../kernel/api-keys.ts";
import { AppError, permanent, toFailure } from "../kernel/errors.ts";
import { problemResponse } from "./problem.http.ts";
import { matchRoute, type RouteRow, routeTable } from "./route-table.http.ts";
import { type Caller, createRoutes, type WebEnv } from "./routes.http.ts";
import { runTrigger } from "./run-trigger.ts";

const BODY_BYTES_MAX = 1024 * 1024;
/** Far below the 230 s after which the platform's front end gives up. */
const HTTP_DEADLINE_MS = 60_000;
const KEY_CHARACTERS_MAX = 200;
/** All of them, so that a wrong method gets our 405 and not the 404 of the host. */
export const HTTP_METHODS: HttpMethod[] = [
  "GET",
  "HEAD",
  "POST",
  "PUT",
  "PATCH",
  "DELETE",
  "OPTIONS",
];

export interface WebAppOptions {
  /** Read at each request: the app is built while the file loads, before the configuration is known. */
  readonly settings: () => {
    readonly apiKeys: readonly ApiKey[];
    readonly corsOrigins: readonly string[];
  };
}

/**
 * A Hono app with what every HTTP function has: secure headers, CORS with an explicit list, a body limit of 1 MiB,
 * 404 and 405 as problem details, the role that each route declares, and one `onError`.
 */
export function createWebApp({ settings }: WebAppOptions): OpenAPIHono<WebEnv> {
  const app = createRoutes();
  let rows: readonly RouteRow[] | undefined;
  app.openAPIRegistry.registerComponent("securitySchemes", "apiKey", {
    type: "apiKey",
    in: "header",
    name: "x-api-key",
    description: "A key of the setting API_KEYS; `Authorization: Bearer <key>` works too.",
  });
  app.use(secureHeaders());
  app.use(cors({ origin: (origin) => (settings().corsOrigins.includes(origin) ? origin : null) }));
  app.use((c, next) => {
    rows ??= routeTable(app);
    return authorise(rows, settings().apiKeys, c, next);
  });
  app.use(bodyLimit({ maxSize: BODY_BYTES_MAX, onError: refuseBody }), requireJson);
  app.notFound(() => Promise.reject(permanent("route_unknown")));
  app.onError((error, c) => {
    const failure = toFailure(fromHono(error));
    c.env.run.finish(failure);
    return problemResponse(failure, c.env.run.id);
  });
  return app;
}

/** 404 before 405 before 401 before 403: a route that does not exist needs no key to say so. */
const authorise = async (
  rows: readonly RouteRow[],
  keys: readonly ApiKey[],
  c: Context<WebEnv>,
  next: () => Promise<void>,
): Promise<void> => {
  const match = matchRoute(rows, c.req.method, c.req.path);
  if (match.kind === "unknown") throw permanent("route_unknown");
  if (match.kind === "method") throw permanent("method_not_allowed", { allow: match.allow });
  const { row } = match;
  c.env.run.note({ route: `${row.method} ${row.path}` });
  if (row.role === undefined) return next();
  const caller = callerOf(c, keys);
  if (caller === undefined) throw permanent("credentials_missing");
  c.env.run.note({ caller: caller.name });
  if (!isGranted(caller.role, row.role)) {
    throw permanent("role_missing", { reason: `this needs the role ${row.role}` });
  }
  c.set("caller", caller);
  return next();
};

function callerOf(c: Context<WebEnv>, keys: readonly ApiKey[]): Caller | undefined {
  const bearer = /^Bearer (\S+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
  const secret = c.req.header("x-api-key") ?? bearer;
  if (secret === undefined || secret.length > KEY_CHARACTERS_MAX) return undefined;
  return findApiKey(keys, secret);
}

const refuseBody = (): never => {
  throw permanent("body_too_large", { reason: `at most ${BODY_BYTES_MAX} bytes` });
};

/** A body in another format would be taken for an empty one. */
const requireJson: MiddlewareHandler<WebEnv> = async (c, next) => {
  const hasBody = Number(c.req.header("content-length") ?? 0) > 0;
  const type = c.req.header("content-type") ?? "";
  if (hasBody && !/^application\/([\w.+-]+\+)?json\b/i.test(type)) {
    throw permanent("media_type_unsupported", { reason: "send application/json" });
  }
  await next();
};

/** What Hono itself throws, in our words. */
function fromHono(error: unknown): unknown {
  if (error instanceof AppError || !(error instanceof HTTPException)) return error;
  if (error.status === 400) return permanent("body_not_json", {}, error);
  if (error.status === 413) return permanent("body_too_large", {}, error);
  return error;
}

/** Serves an app as the handler of an HTTP function; each request is one run. */
export function mountWebApp(app: OpenAPIHono<WebEnv>): HttpHandler {
  return (request, context) =>
    runTrigger(
      context,
      async (run) => fromResponse(await app.fetch(await toRequest(request), { run })),
      { deadlineMs: HTTP_DEADLINE_MS },
    );
}

async function toRequest(request: HttpRequest): Promise<Request> {
  const headers = new Headers([...request.headers.entries()]);
  const isBodiless = request.method === "GET" || request.method === "HEAD";
  const body = isBodiless ? null : await request.arrayBuffer();
  return new Request(request.url, { method: request.method, headers, body });
}

const fromResponse = async (response: Response): Promise<HttpResponseInit> => ({
  status: response.status,
  headers: Object.fromEntries(response.headers),
  body: new Uint8Array(await response.arrayBuffer()),
});
