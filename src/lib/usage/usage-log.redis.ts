import { AppError, invariant } from "../kernel/errors.ts";
import type { RedisDriver, RedisReply } from "../kernel/redis.ts";
import type { ShardHeads } from "./dispatch-shards.ts";
import type { UsageLog } from "./drain-shard.ts";
import type { LogFacts } from "./explain-usage.ts";
import type { LogRow } from "./log-entry.ts";
import { START_LINEAGE } from "./start-lineage.lua.ts";
import { TRIM_LOG } from "./trim-log.lua.ts";
import { keysOf, newLineage, SHARD_COUNT, shardOf } from "./usage-keys.ts";

export const asText = (reply: RedisReply | undefined, fallback: string): string =>
  typeof reply === "string" || typeof reply === "number" ? String(reply) : fallback;

export const asList = (reply: RedisReply | undefined, what: string): readonly RedisReply[] => {
  if (reply === null || reply === undefined) return [];
  invariant(typeof reply === "object", `${what} is a list`, "redis_reply_unexpected");
  return reply;
};

export function toRow(reply: RedisReply): LogRow {
  const [id, fields] = asList(reply, "a stream entry");
  const text = asText(id, "");
  const dash = text.indexOf("-");
  invariant(dash > 0, "a stream entry has an id", "redis_reply_unexpected");
  return {
    n: text.slice(0, dash),
    fields: asList(fields, "fields").map((field) => asText(field, "")),
  };
}

/** The log of the shards over any driver. Every read is one round trip. */
export const usageLog = (redis: RedisDriver): UsageLog & ShardHeads => ({
  read: async ({ shard, cursor, max, upTo = "+" }, signal) => {
    const keys = keysOf(shard);
    const from = cursor.n === "0" ? "-" : `${cursor.n}-0`;
    const [meta, rows] = await redis.transaction(
      [
        ["HMGET", keys.meta, "inc", "n", "cum", "cnt"],
        ["XRANGE", keys.log, from, upTo, "COUNT", String(max + 1)],
      ],
      signal,
    );
    const [inc, n, cum, count] = asList(meta, "HMGET");
    return {
      inc: asText(inc, ""),
      n: asText(n, "0"),
      cum: asText(cum, "0"),
      count: asText(count, "0"),
      rows: asList(rows, "XRANGE").map(toRow),
    };
  },

  startLineage: async (shard, seen, cursor, mode, signal) => {
    const candidate = newLineage();
    const call = {
      script: START_LINEAGE,
      keys: [keysOf(shard).meta],
      args: [seen, candidate, cursor.n, mode],
    };
    const [code, inc] = asList(await redis.script(call, signal), "start-lineage");
    if (Number(code) === 2) return undefined;
    return Number(code) === 1 ? candidate : asText(inc, "");
  },

  endOf: async (shard, inc, signal) => {
    const ended = await redis.command(["HGET", keysOf(shard).meta, `rw:${inc}`], signal);
    const [, n = "0", cum = "0"] = asText(ended, "").split("|");
    return { n, cum };
  },

  trim: async (shard, inc, n, signal) => {
    const keys = keysOf(shard);
    const call = { script: TRIM_LOG, keys: [keys.meta, keys.log], args: [inc, n] };
    return Number(await redis.script(call, signal)) >= 0;
  },

  readHeads: async (signal) => {
    const commands = Array.from(
      { length: SHARD_COUNT },
      (_, shard) => ["HMGET", keysOf(shard).meta, "inc", "n", "cum", "cnt"] as const,
    );
    const replies = await redis.pipeline(commands, signal);
    return replies.map((reply, shard) => {
      if (reply instanceof AppError) throw reply;
      const [inc, n, cum, count] = asList(reply, "HMGET");
      const head = { inc: asText(inc, ""), n: asText(n, "0"), cum: asText(cum, "0") };
      return { shard, ...head, count: asText(count, "0") };
    });
  },
});

/** What the counters of a tenant say now; null when Redis has none for the period. */
export interface UsageCounters {
  counter(tenant: string, period: number, signal: AbortSignal): Promise<string | null>;
}

export const usageCounters = (redis: RedisDriver): UsageCounters => ({
  counter: async (tenant, period, signal) => {
    const key = keysOf(shardOf(tenant)).counter(period);
    const reply = await redis.command(["HGET", key, tenant], signal);
    return reply === null ? null : asText(reply, "0");
  },
});

/** Entries after the cursor that one explanation reads. */
const TAIL_MAX = 5000;

export interface UsageTail {
  /** The counter of a tenant and the log after an entry, in one instant. */
  tail(tenant: string, period: number, afterN: string, signal: AbortSignal): Promise<LogFacts>;
}

export const usageTail = (redis: RedisDriver): UsageTail => ({
  tail: async (tenant, period, afterN, signal) => {
    const keys = keysOf(shardOf(tenant));
    const [meta, counter, entries] = await redis.transaction(
      [
        ["HMGET", keys.meta, "inc", "n"],
        ["HGET", keys.counter(period), tenant],
        ["XRANGE", keys.log, afterN === "0" ? "-" : `(${afterN}-0`, "+", "COUNT", String(TAIL_MAX)],
      ],
      signal,
    );
    const [inc, n] = asList(meta, "HMGET");
    const rows = asList(entries, "XRANGE").map(toRow);
    return {
      inc: asText(inc, ""),
      n: asText(n, "0"),
      counter: counter === null ? null : asText(counter, "0"),
      rows,
      isWhole: rows.length < TAIL_MAX,
    };
  },
});
