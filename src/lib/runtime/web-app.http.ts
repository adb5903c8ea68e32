import type { HttpHandler, HttpMethod, HttpRequest, HttpResponseInit } from "@azure/functions";
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { cors } from "hono/cors";
import { HTTPException } from "hono/http-exception";
import { secureHeaders } from "hono/secure-headers";
import { AppError, permanent, toFailure } from "../kernel/errors.ts";
import type { ActiveRun } from "../kernel/run.ts";
import { type Admission, authorise } from "./authorise.http.ts";
import { isDeeperThan } from "./json-nesting.ts";
import { problemResponse } from "./problem.http.ts";
import { type RouteRow, routeTable } from "./route-table.http.ts";
import { createRoutes, type WebEnv } from "./routes.http.ts";
import { runTrigger, type TriggerOptions } from "./run-trigger.ts";

const BODY_BYTES_MAX = 1024 * 1024;
/** Far more than any input of ours needs. */
const BODY_LEVELS_MAX = 32;
/** Far below the 230 s after which the platform's front end gives up. */
const HTTP_DEADLINE_MS = 60_000;
/** How long a browser remembers what a preflight allowed. */
const PREFLIGHT_SECONDS = 600;
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
  readonly settings: () => Admission & { readonly corsOrigins: readonly string[] };
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
    description:
      "A key of the setting API_KEYS; `Authorization: Bearer <key>` works too, and so does an access token of Entra.",
  });
  app.use(secureHeaders({ contentSecurityPolicy: PAGE_POLICY }), forbidCaching);
  app.use(allowOrigins(() => settings().corsOrigins));
  app.use((c, next) => {
    rows ??= routeTable(app);
    return authorise(rows, settings(), c, next);
  });
  app.use(bodyLimit({ maxSize: BODY_BYTES_MAX, onError: refuseBody }), requireJson, throwErrors);
  app.notFound(() => Promise.reject(permanent("route_unknown")));
  app.onError((error, c) => {
    const failure = toFailure(fromHono(error));
    c.env.run.finish(failure);
    return problemResponse(failure, c.env.run.id);
  });
  return app;
}

/** Our pages hold a style and nothing else: no script, nothing from another host. */
const PAGE_POLICY = {
  defaultSrc: ["'none'"],
  styleSrc: ["'unsafe-inline'"],
  baseUri: ["'none'"],
  formAction: ["'none'"],
  frameAncestors: ["'none'"],
};

/** Answers are the state of this moment, and of one caller. */
const forbidCaching: MiddlewareHandler<WebEnv> = async (c, next) => {
  await next();
  if (!c.res.headers.has("cache-control")) c.header("cache-control", "no-store");
};

/**
 * CORS for the listed origins; others get no header of it. Only a preflight is answered here: any other OPTIONS is a
 * method that no route knows.
 */
function allowOrigins(listed: () => readonly string[]): MiddlewareHandler<WebEnv> {
  const answer = cors({
    origin: (origin) => origin,
    allowMethods: HTTP_METHODS.filter((method) => method !== "OPTIONS"),
    allowHeaders: ["authorization", "content-type", "x-api-key"],
    exposeHeaders: ["retry-after"],
    maxAge: PREFLIGHT_SECONDS,
  });
  return (c, next) => {
    const origin = c.req.header("origin");
    if (origin === undefined || !listed().includes(origin)) return next();
    const isPreflight = c.req.header("access-control-request-method") !== undefined;
    return c.req.method === "OPTIONS" && !isPreflight ? next() : answer(c, next);
  };
}

const refuseBody = (): never => {
  throw permanent("body_too_large", { reason: `at most ${BODY_BYTES_MAX} bytes` });
};

/** A body in another format would be taken for an empty one; one that is too deep breaks what recurses over it. */
const requireJson: MiddlewareHandler<WebEnv> = async (c, next) => {
  if (c.req.raw.body === null) return next();
  const [type = ""] = (c.req.header("content-type") ?? "").split(";");
  if (!/^application\/([\w.-]+\+)?json$/i.test(type.trim())) throw mediaTypeUnsupported();
  if (isDeeperThan(await c.req.text(), BODY_LEVELS_MAX)) {
    const reason = `nests more than ${BODY_LEVELS_MAX} levels deep`;
    throw permanent("request_invalid", { faults: [{ field: "body", reason }] });
  }
  c.req.raw.headers.set("content-type", "application/json"); // the validators know fewer spellings of it
  return next();
};

const mediaTypeUnsupported = (cause?: unknown): AppError =>
  permanent("media_type_unsupported", { reason: "send application/json" }, cause);

/** Hono hands only errors to `onError`; anything else that is thrown would leave the app without an answer. */
const throwErrors: MiddlewareHandler<WebEnv> = async (_c, next) => {
  try {
    await next();
  } catch (thrown) {
    throw toFailure(thrown).error;
  }
};

/** What Hono itself throws, in our words. */
function fromHono(error: unknown): unknown {
  if (error instanceof AppError || !(error instanceof HTTPException)) return error;
  if (error.status === 400) return permanent("body_not_json", {}, error);
  if (error.status === 413) return permanent("body_too_large", {}, error);
  if (error.status === 415) return mediaTypeUnsupported(error);
  return error;
}

/** Serves an app as the handler of an HTTP function; each request is one run. What the app did not answer is answered here. */
export function mountWebApp(
  app: OpenAPIHono<WebEnv>,
  { isRoutine }: Pick<TriggerOptions<HttpResponseInit>, "isRoutine"> = {},
): HttpHandler {
  return (request, context) =>
    runTrigger(context, (run) => serve(app, request, run), {
      deadlineMs: HTTP_DEADLINE_MS,
      ...(isRoutine === undefined ? {} : { isRoutine }),
      settle: (failure, run) => fromResponse(problemResponse(failure, run.id)),
    });
}

async function serve(
  app: OpenAPIHono<WebEnv>,
  request: HttpRequest,
  run: ActiveRun,
): Promise<HttpResponseInit> {
  const response = await app.fetch(await toRequest(request), { run });
  run.note({ status: response.status });
  return fromResponse(response);
}

/** The length is that of what arrived: a caller who sends in chunks names none, and one who lies names another. */
async function toRequest(request: HttpRequest): Promise<Request> {
  const { method, url } = request;
  const headers = new Headers([...request.headers.entries()]);
  const isBodiless = method === "GET" || method === "HEAD";
  const body = isBodiless ? new ArrayBuffer(0) : await request.arrayBuffer();
  headers.delete("transfer-encoding");
  headers.set("content-length", String(body.byteLength));
  return new Request(url, { method, headers, body: body.byteLength === 0 ? null : body });
}

const fromResponse = async (response: Response): Promise<HttpResponseInit> => ({
  status: response.status,
  headers: Object.fromEntries(response.headers),
  body: new Uint8Array(await response.arrayBuffer()),
});
