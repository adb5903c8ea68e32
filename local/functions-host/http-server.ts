import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { StartError } from "../backends/start-error.ts";
import { type AdminDeps, answerAdmin } from "./admin-endpoints.ts";
import { applyCors, type Cors } from "./cors.ts";
import type { Executor } from "./executor.ts";
import { type FunctionKeys, isMaster, keyOfRequest, mayCall } from "./function-keys.ts";
import type { HostLog } from "./host-log.ts";
import { answer, headersOf, readBody, urlOf, writeResponse } from "./http-messages.ts";
import { findRoute, type HttpFunction, type Route } from "./routes.ts";
import { type HttpInput, httpInput, streamInput } from "./rpc-data.ts";
import { forward } from "./stream-proxy.ts";

export interface HttpDeps {
  readonly routes: readonly Route[];
  readonly executor: Executor;
  readonly admin: AdminDeps;
  readonly cors: Cors;
  /** Undefined = keys are not asked for, as with `func start`. */
  readonly keys: FunctionKeys | undefined;
  readonly customHeaders: Readonly<Record<string, string>>;
  readonly maxBodyBytes: number;
  readonly hasHomepage: boolean;
  /** The library's own server, when the app streams. */
  readonly streamUrl: string | undefined;
  readonly log: HostLog;
}

export interface HttpListener {
  readonly port: number;
  /** Until then every request is answered with 503. */
  serve(deps: HttpDeps): void;
  /** Takes no new connections. Resolves when the open ones are through; after `withinMs` they are cut. */
  close(withinMs: number): Promise<void>;
}

/**
 * Takes the port before the app is loaded: the app is told its address, and a taken port is reported at once.
 *
 * @throws StartError that names the port.
 */
export async function listen(port: number, address: string): Promise<HttpListener> {
  let deps: HttpDeps | undefined;
  const server = createServer((request, response) => {
    if (deps === undefined) return answer(response, 503);
    void handleSafely(deps, request, response);
  });
  server.requestTimeout = 0; // a handler ends a request, not the server
  await bind(server, port, address);
  return {
    port: (server.address() as AddressInfo).port,
    serve: (given) => {
      deps = given;
    },
    close: (withinMs) => closeServer(server, withinMs),
  };
}

const IDLE_CHECK_MS = 20;

async function closeServer(server: Server, withinMs: number): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  const idle = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS);
  const late = setTimeout(() => server.closeAllConnections(), withinMs);
  await closed;
  clearInterval(idle);
  clearTimeout(late);
}

async function bind(server: Server, port: number, address: string): Promise<void> {
  server.listen(port, address);
  try {
    await once(server, "listening");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why =
      code === "EADDRINUSE"
        ? `is taken. Stop what uses it (\`lsof -i :${port}\` names it), or choose another one with --port (0 = any free port).`
        : `cannot be used: ${String(error)}`;
    throw new StartError(`Port ${port} of ${address} ${why}`);
  }
}

async function handleSafely(
  deps: HttpDeps,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    await handle(deps, request, response);
  } catch (error) {
    deps.log("error", `http: ${error instanceof Error ? error.stack : String(error)}`);
    if (response.headersSent) response.destroy();
    else answer(response, 500);
  }
}

async function handle(
  deps: HttpDeps,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = urlOf(request);
  if (url === undefined) return answer(response, 400);
  for (const [name, value] of Object.entries(deps.customHeaders)) response.setHeader(name, value);
  if (applyCors(deps.cors, request, response)) return;
  const call: Call = { request, response, url, key: keyOfRequest(request, url) };
  if (/^\/admin(\/|$)/i.test(url.pathname)) return handleAdmin(deps, call);
  return handleFunction(deps, call);
}

interface Call {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  readonly key: string | undefined;
}

async function handleAdmin(deps: HttpDeps, { request, response, url, key }: Call): Promise<void> {
  const isAllowed = deps.keys === undefined || isMaster(deps.keys, key);
  if (isAllowed) await answerAdmin(deps.admin, request, response, url.pathname);
  else answer(response, 401);
}

/** In the order of the host: route, key, disabled, run. */
async function handleFunction(deps: HttpDeps, call: Call): Promise<void> {
  const { request, response, url, key } = call;
  const method = request.method ?? "GET";
  const found = findRoute(deps.routes, method, url.pathname);
  if (found === undefined) return answerUnknown(deps, call);
  const { fn, params } = found;
  const { authLevel } = fn.trigger;
  if (deps.keys !== undefined && !mayCall(deps.keys, key, { name: fn.name, authLevel })) {
    return answer(response, 401);
  }
  const isForced = deps.keys !== undefined && isMaster(deps.keys, key);
  if (fn.isDisabled && !isForced) return answer(response, 404);
  const input = { method, url, headers: headersOf(request), params, invocationId: randomUUID() };
  const run = deps.streamUrl === undefined ? runBuffered : runStreamed;
  await run(deps, fn, call, input);
}

function answerUnknown(deps: HttpDeps, { response, url }: Call): void {
  if (url.pathname === "/" && deps.hasHomepage) {
    response.writeHead(200, { "content-type": "text/html" }).end(HOMEPAGE);
  } else {
    answer(response, 404);
  }
}

const HOMEPAGE =
  "<!doctype html><title>Functions host</title><p>The Functions host is running.</p>";

async function runBuffered(
  { executor, maxBodyBytes }: HttpDeps,
  fn: HttpFunction,
  { request, response }: Call,
  input: HttpInput,
): Promise<void> {
  const read = await readBody(request, maxBodyBytes);
  if (read.kind === "too-large") {
    response.setHeader("connection", "close");
    return answer(response, 413);
  }
  // what failed is in the log; the caller gets no details
  const run = executor.execute(fn, httpInput({ ...input, body: read.body }));
  const result = await run.catch(() => undefined);
  if (result === undefined) answer(response, 500);
  else writeResponse(request, response, result.returnValue?.http);
}

/** A handler that returned sent its answer to us already, unless it returned nothing. */
const STREAM_ANSWER_WITHIN_MS = 5000;

async function runStreamed(
  { executor, streamUrl = "" }: HttpDeps,
  fn: HttpFunction,
  { request, response }: Call,
  input: HttpInput,
): Promise<void> {
  const proxied = forward(streamUrl, request, response, input);
  const abortLater = () => void setTimeout(proxied.abort, STREAM_ANSWER_WITHIN_MS).unref();
  executor.execute(fn, streamInput(input)).then(abortLater, proxied.abort);
  await proxied.done.catch(() => {
    if (response.headersSent) response.destroy();
    else answer(response, 500);
  });
}
