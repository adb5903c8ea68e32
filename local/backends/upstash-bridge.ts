import { createHash, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { refuseTakenPort } from "./ports.ts";
import {
  ConnectionLostError,
  RedisReplyError,
  RespConnection,
  type RespReply,
} from "./resp-connection.ts";

const HOST = "127.0.0.1";
/** What the hosted service allows in one request. */
const BODY_BYTES_MAX = 10 * 1024 * 1024;
const KEEP_ALIVE_MS = 65_000;

export interface UpstashBridgeOptions {
  readonly redisUrl: string;
  readonly token: string;
  /** 0 or nothing: any free port. */
  readonly port?: number;
}

export interface RunningUpstashBridge {
  readonly url: string;
  readonly token: string;
  close(): Promise<void>;
}

/**
 * The REST protocol of Upstash in front of a Redis: single commands, pipelines, transactions, answers in base64. Refuses
 * what the hosted service cannot do over HTTP, so that nothing works here that fails there: blocking commands,
 * subscriptions, and commands that need a connection of their own.
 */
export async function startUpstashBridge(
  options: UpstashBridgeOptions,
): Promise<RunningUpstashBridge> {
  const port = options.port ?? 0;
  await refuseTakenPort(port, "the Upstash REST bridge", "--upstash-port");
  const redis = new RespConnection(Number(new URL(options.redisUrl).port));
  const isAuthorised = authoriser(options.token);
  let sequence = 0;
  const server = createServer((request, response) => {
    void answer(request, redis, isAuthorised).then(({ status, body }) => {
      sequence += 1;
      send(response, status, body, sequence);
    });
  });
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.listen(port, HOST);
  await once(server, "listening");
  return {
    url: `http://${HOST}:${(server.address() as AddressInfo).port}`,
    token: options.token,
    close: async () => {
      redis.close();
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

async function answer(
  request: IncomingMessage,
  redis: RespConnection,
  isAuthorised: (request: IncomingMessage, url: URL) => boolean,
): Promise<Answer> {
  try {
    const url = new URL(request.url ?? "/", "http://bridge");
    if (!isAuthorised(request, url)) return { status: 401, body: { error: "Unauthorized" } };
    const text = await readBody(request);
    const base64 = request.headers["upstash-encoding"] === "base64";
    return { status: 200, body: await run(redis, url.pathname, text, base64) };
  } catch (error) {
    return { status: statusOf(error), body: { error: messageOf(error) } };
  }
}

function send(response: ServerResponse, status: number, body: unknown, sequence: number): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    "upstash-sync-token": `local-${sequence}`,
  });
  response.end(text);
}

/** The request as such is at fault. */
class RefusedError extends Error {
  override readonly name = "RefusedError";
  readonly status: number;

  constructor(message: string, status = 400) {
    super(message);
    this.status = status;
  }
}

function statusOf(error: unknown): number {
  if (error instanceof RefusedError) return error.status;
  if (error instanceof RedisReplyError) return 400;
  return error instanceof ConnectionLostError ? 503 : 500;
}

const messageOf = (error: unknown): string => {
  const message = error instanceof Error ? error.message : String(error);
  return error instanceof ConnectionLostError ? `ERR upstream: ${message}` : message;
};

function authoriser(token: string): (request: IncomingMessage, url: URL) => boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  const expected = digest(`Bearer ${token}`);
  return (request, url) => {
    const given = request.headers.authorization ?? `Bearer ${url.searchParams.get("_token") ?? ""}`;
    return timingSafeEqual(digest(given), expected);
  };
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size <= BODY_BYTES_MAX) chunks.push(chunk); // read on, or the client sees a broken pipe and no answer
  }
  if (size > BODY_BYTES_MAX) throw new RefusedError("ERR max request size exceeded", 413);
  return Buffer.concat(chunks).toString("utf8");
}

async function run(
  redis: RespConnection,
  pathname: string,
  text: string,
  base64: boolean,
): Promise<unknown> {
  if (pathname === "/pipeline") {
    const replies = await redis.send(parseCommands(text));
    return replies.map((reply) => wrap(reply, base64));
  }
  if (pathname === "/multi-exec") {
    const replies = await runTransaction(redis, parseCommands(text));
    return replies.map((reply) => wrap(reply, base64));
  }
  const [reply] = await redis.send([singleCommand(pathname, text)]);
  if (reply instanceof RedisReplyError) throw reply;
  return wrap(reply ?? null, base64);
}

async function runTransaction(
  redis: RespConnection,
  commands: readonly (readonly string[])[],
): Promise<readonly RespReply[]> {
  const replies = await redis.send([["MULTI"], ...commands, ["EXEC"]]);
  const result = replies.at(-1);
  if (Array.isArray(result)) return result as readonly RespReply[];
  // A command that could not be queued ends the transaction; its own error says more than EXECABORT.
  throw (
    replies.find((reply) => reply instanceof RedisReplyError) ?? new RedisReplyError("EXECABORT")
  );
}

function parseCommands(text: string): string[][] {
  const body = parseJson(text);
  if (!Array.isArray(body) || body.length === 0)
    throw new RefusedError("ERR failed to parse pipeline request");
  return body.map(toCommand);
}

/** `POST /` with the command as a JSON array, or `/set/key` with further arguments in the path and the value as body. */
function singleCommand(pathname: string, text: string): string[] {
  const path = pathname.split("/").filter(Boolean).map(decodeURIComponent);
  if (path.length === 0) return toCommand(parseJson(text));
  return toCommand(text === "" ? path : [...path, text]);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new RefusedError("ERR failed to parse command");
  }
}

function toCommand(value: unknown): string[] {
  if (!Array.isArray(value) || value.length === 0) throw new RefusedError("ERR empty command");
  const [name = "", ...args] = value.map(toText);
  const command = [name.toUpperCase(), ...args];
  if (UNAVAILABLE.has(command[0] ?? "") || isBlockingRead(command)) {
    throw new RefusedError(
      `ERR Command is not available: '${name}'. See https://upstash.com/docs/redis/overall/rediscompatibility`,
    );
  }
  return command;
}

const toText = (part: unknown): string =>
  typeof part === "object" && part !== null ? JSON.stringify(part) : String(part);

const UNAVAILABLE: ReadonlySet<string> = new Set(
  (
    "MULTI EXEC DISCARD WATCH UNWATCH SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE MONITOR QUIT RESET SELECT HELLO " +
    "CLIENT AUTH SHUTDOWN CONFIG BLPOP BRPOP BLMOVE BRPOPLPUSH BZPOPMIN BZPOPMAX BLMPOP BZMPOP WAIT WAITAOF"
  ).split(" "),
);

const isBlockingRead = ([name, ...args]: readonly string[]): boolean =>
  (name === "XREAD" || name === "XREADGROUP") && args.some((arg) => arg.toUpperCase() === "BLOCK");

const wrap = (reply: RespReply, base64: boolean): object =>
  reply instanceof RedisReplyError
    ? { error: reply.message }
    : { result: encodeReply(reply, base64, true) };

/** Every text is base64 when asked for, except a top-level "OK"; numbers and null stay as they are. */
function encodeReply(reply: RespReply, base64: boolean, isTop: boolean): unknown {
  if (Buffer.isBuffer(reply)) {
    const isOk = isTop && reply.toString("latin1") === "OK";
    return isOk ? "OK" : reply.toString(base64 ? "base64" : "utf8");
  }
  if (reply instanceof RedisReplyError) {
    return base64 ? Buffer.from(reply.message).toString("base64") : reply.message;
  }
  if (typeof reply === "number" || reply === null) return reply;
  return reply.map((part) => encodeReply(part, base64, false));
}
