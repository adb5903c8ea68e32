import type { Requester } from "@upstash/redis";
import { invariant } from "../kernel/errors.ts";
import type { RedisCommand, RedisDriver } from "../kernel/redis.ts";
import { type Answer, buildDriver, toAnswer } from "./build-driver.redis.ts";
import { clientError, connectionError, replyError } from "./classify-error.redis.ts";

/** Lets scripts on different keys run at the same time; without it each one locks the whole database. */
const KEY_LOCKING = "#!lua flags=allow-key-locking\n";

export interface UpstashOptions {
  readonly url: string;
  readonly token: string;
  /** Default: only at `*.upstash.io`, because plain Redis refuses scripts with this flag. */
  readonly keyLocking?: boolean | undefined;
  readonly timeoutMs?: number | undefined;
}

/** Redis over Upstash's REST interface. Every round trip is one request; nothing is repeated. */
export function createUpstashDriver(options: UpstashOptions): RedisDriver {
  const { url, token, keyLocking = isUpstash(url), timeoutMs } = options;
  let client: Promise<RestClient> | undefined;
  const post = async (path: string, commands: readonly RedisCommand[], signal: AbortSignal) => {
    client ??= createClient(url, token);
    return answersOf(await request(await client, path, commands, signal), commands.length);
  };
  return buildDriver(
    {
      kind: "upstash",
      send: (commands, signal) => post("pipeline", commands, signal),
      sendAtomic: (commands, signal) => post("multi-exec", commands, signal),
      close: async () => {}, // the calls in flight were aborted; idle sockets belong to fetch and hold no process
    },
    { timeoutMs, scriptHeader: keyLocking ? KEY_LOCKING : undefined },
  );
}

const isUpstash = (url: string): boolean => /(^|\.)upstash\.io$/.test(new URL(url).hostname);

type RestClient = Pick<Requester, "request">;

/**
 * The client's own requester, the only part of it that takes a signal per call. Its commands parse replies as JSON,
 * and its pipelines accept typed commands only.
 */
async function createClient(url: string, token: string): Promise<RestClient> {
  const { Redis } = await import("@upstash/redis");
  class Rest extends Redis implements RestClient {
    readonly request: Requester["request"] = (request) => this.client.request(request);
  }
  return new Rest({
    url,
    token,
    automaticDeserialization: false,
    enableAutoPipelining: false,
    enableTelemetry: false,
    latencyLogging: false,
    responseEncoding: false, // base64 would drop a leading byte order mark and cost time
    retry: { retries: 0 }, // a repeated INCR counts twice; `retry: false` means one more attempt
    readYourWrites: true,
  });
}

async function request(
  client: RestClient,
  path: string,
  body: readonly RedisCommand[],
  signal: AbortSignal,
): Promise<unknown> {
  try {
    return await client.request({ path: [path], body, signal });
  } catch (error) {
    // The client quotes a proxy's page that is not JSON; that does not travel.
    const isPage = error instanceof Error && error.name === "UpstashJSONParseError";
    throw isPage ? connectionError({ code: "BAD_RESPONSE" }) : clientError(error);
  }
}

function answersOf(body: unknown, count: number): readonly Answer[] {
  invariant(
    Array.isArray(body) && body.length === count,
    "one answer for each command",
    "redis_reply_unexpected",
  );
  return body.map(toPlace);
}

function toPlace(item: unknown): Answer {
  const isItem = typeof item === "object" && item !== null;
  invariant(isItem, "an answer is an object", "redis_reply_unexpected");
  const { result, error } = item as { result?: unknown; error?: unknown };
  return typeof error === "string" ? replyError(error) : toAnswer(result);
}
