import { AppError, invariant } from "../../kernel/errors.ts";
import type { RedisDriver, RedisReply } from "../../kernel/redis.ts";
import type { PendingPage, PendingSet } from "./drain-pending.ts";
import type { LegacyCounters } from "./poll-counters.ts";

/** Asked of a scan; Redis may answer a little more. */
const MEMBERS_PER_PAGE = 1000;
const KEYS_PER_PAGE = 1000;
/** Of one SREM, in characters: some plans of Upstash refuse requests of more than 1 MB. */
const REMOVAL_CHARACTERS_MAX = 400_000;
/** An integer as INCRBY writes it. */
const INTEGER = /^(0|-?[1-9]\d{0,18})$/;

/** The set over any driver. One key, so one slot of a cluster. */
export const pendingSet = (redis: RedisDriver, key: string): PendingSet => ({
  scan: async (cursor, signal) => {
    const command = ["SSCAN", key, cursor, "COUNT", String(MEMBERS_PER_PAGE)] as const;
    const page = toPage(await redis.command(command, signal));
    return { cursor: page.cursor, members: page.items } satisfies PendingPage;
  },

  remove: async (members, signal) => {
    let removed = 0;
    for (const chunk of chunksOf(members)) {
      removed += Number(await redis.command(["SREM", key, ...chunk], signal));
    }
    return removed;
  },

  size: async (signal) => Number(await redis.command(["SCARD", key], signal)),
});

/** The counters over any driver. */
export const legacyCounters = (redis: RedisDriver): LegacyCounters => ({
  canScan: async (signal) => !(await isCluster(redis, signal)),

  scan: async (glob, cursor, signal) => {
    const command = ["SCAN", cursor, "MATCH", glob, "COUNT", String(KEYS_PER_PAGE)] as const;
    const page = toPage(await redis.command(command, signal));
    return { cursor: page.cursor, keys: page.items };
  },

  read: async (keys, signal) => {
    const commands = keys.map((key) => ["GET", key] as const);
    const replies = await redis.pipeline(commands, signal);
    return replies.map(toValue);
  },
});

/** A Redis that does not tell is none: the hosted ones that refuse INFO show one database. */
async function isCluster(redis: RedisDriver, signal: AbortSignal): Promise<boolean> {
  if (redis.kind === "upstash") return false;
  const [info] = await redis.pipeline([["INFO", "cluster"]], signal);
  return typeof info === "string" && /^cluster_enabled:1\s*$/m.test(info);
}

function toPage(reply: RedisReply): { cursor: string; items: readonly string[] } {
  const [cursor, items] = Array.isArray(reply) ? reply : [];
  const isPage = cursor !== undefined && cursor !== null && Array.isArray(items);
  invariant(isPage, "a scan answers a cursor and a list", "redis_reply_unexpected");
  return { cursor: String(cursor), items: items.map(String) };
}

/** Another type, or text that is no integer, is not a counter. */
function toValue(reply: RedisReply | AppError): string | null | undefined {
  if (reply instanceof AppError && reply.kind === "transient") throw reply;
  if (reply === null) return null;
  const text = typeof reply === "number" ? String(reply) : reply;
  return typeof text === "string" && INTEGER.test(text) ? text : undefined;
}

function* chunksOf(members: readonly string[]): Generator<readonly string[]> {
  let chunk: string[] = [];
  let characters = 0;
  for (const member of members) {
    if (characters + member.length > REMOVAL_CHARACTERS_MAX && chunk.length > 0) {
      yield chunk;
      chunk = [];
      characters = 0;
    }
    chunk.push(member);
    characters += member.length;
  }
  if (chunk.length > 0) yield chunk;
}
