import { AppError, invariant } from "../kernel/errors.ts";
import type { RedisDriver, RedisReply } from "../kernel/redis.ts";
import { OBSERVE_SHARD } from "./observe-shard.lua.ts";
import type { LogWitness } from "./observe-shards.ts";
import type { Check, Verdict } from "./plan-observations.ts";
import { keysOf, newLineage } from "./usage-keys.ts";
import { asList, asText } from "./usage-log.redis.ts";

export const logWitness = (redis: RedisDriver): LogWitness => ({
  verify: async (checks, signal) => {
    const replies = await redis.scripts(checks.map(toCall), signal);
    return checks.map((check, i) => {
      const reply = replies[i];
      return reply instanceof AppError ? reply : toVerdict(check, reply);
    });
  },
});

const toCall = ({ shard, last }: Check) => {
  const keys = keysOf(shard);
  const seen = [last?.inc, last?.n, last?.cum, last?.count, last?.anchor];
  return {
    script: OBSERVE_SHARD,
    keys: [keys.meta, keys.log],
    args: [...seen.map((part) => part ?? ""), newLineage()],
  };
};

const KINDS = ["confirmed", "contradicted", "ended"] as const;

function toVerdict({ shard, last }: Check, reply: RedisReply | undefined): Verdict {
  const [status, ...parts] = asList(reply, "observe-shard");
  const kind = KINDS[Number(status)];
  invariant(kind !== undefined, "a known status", "redis_reply_unexpected");
  const [
    inc = "",
    n = "0",
    cum = "0",
    count = "0",
    anchor = "",
    keptN = "0",
    keptCum = "0",
    kept = "",
  ] = parts.map((part) => asText(part, ""));
  return {
    shard,
    kind,
    last,
    head: { shard, inc, n, cum, count, anchor: anchor || null },
    kept: { n: keptN, cum: keptCum, count: kept || null },
  };
}
