import { invariant } from "../kernel/errors.ts";
import type { RedisDriver, RedisReply } from "../kernel/redis.ts";
import type { ShardCounters } from "./consolidate-shard.ts";
import { type Counter, repairArguments } from "./plan-consolidation.ts";
import { REPAIR_COUNTERS } from "./repair-counters.lua.ts";
import { keysOf } from "./usage-keys.ts";
import { asList, asText, toRow } from "./usage-log.redis.ts";

/** What HINCRBY accepts as a value. */
const INTEGER = /^(0|-?[1-9]\d{0,18})$/;
/** No tenant id has one; U+FFFD stands for bytes that were no text. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this finds
const FOREIGN = /[\u0000-\u001f\u007f\ufffd]/;
const TENANT_CHARACTERS_MAX = 200;

/** The counters of the shards over any driver. */
export const shardCounters = (redis: RedisDriver): ShardCounters => ({
  read: async (shard, periods, signal) => {
    const keys = keysOf(shard);
    const [meta, newest, ...hashes] = await redis.transaction(
      [
        ["HMGET", keys.meta, "inc", "n", "cum", "cnt", "rep"],
        ["XREVRANGE", keys.log, "+", "-", "COUNT", "1"],
        ...periods.map((period) => ["HGETALL", keys.counter(period)] as const),
      ],
      signal,
    );
    const [inc, n, cum, count, epoch] = asList(meta, "HMGET");
    const [last] = asList(newest, "XREVRANGE");
    const all = periods.flatMap((period, i) => toCounters(period, asList(hashes[i], "HGETALL")));
    const counters = all.filter(({ tenant }) => isTenant(tenant));
    return {
      inc: asText(inc, ""),
      n: asText(n, "0"),
      cum: asText(cum, "0"),
      count: asText(count, "0"),
      epoch: asText(epoch, ""),
      last: last === undefined ? undefined : toRow(last),
      counters,
      foreign: all.length - counters.length,
    };
  },

  repair: async ({ shard, inc, epoch, repairId, corrections, nowMs }, signal) => {
    const { keys, args } = repairArguments(shard, corrections, nowMs);
    const call = {
      script: REPAIR_COUNTERS,
      keys: [keysOf(shard).meta, ...keys],
      args: [epoch, repairId, inc, ...args],
    };
    const refused = Number(await redis.script(call, signal));
    invariant(Number.isInteger(refused), "a number of corrections", "redis_reply_unexpected");
    return refused < 0 ? { kind: "overtaken" } : { kind: "repaired", refused };
  },
});

function toCounters(period: number, fields: readonly RedisReply[]): Counter[] {
  const counters: Counter[] = [];
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const tokens = asText(fields[i + 1], "");
    const tenant = asText(fields[i], "");
    counters.push({ tenant, period, tokens: INTEGER.test(tokens) ? tokens : null });
  }
  return counters;
}

const isTenant = (tenant: string): boolean =>
  tenant !== "" && tenant.length <= TENANT_CHARACTERS_MAX && !FOREIGN.test(tenant);
