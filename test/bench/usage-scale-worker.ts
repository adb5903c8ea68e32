// The worker of usage-scale.ts: two reconciliations, the second with nothing to do, and what they cost.
import { connectRedis } from "../../src/lib/runtime/connect.redis.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { dispatchShards } from "../../src/lib/usage/dispatch-shards.ts";
import { reconcileShard } from "../../src/lib/usage/reconcile-shard.ts";
import type { ShardMessage } from "../../src/lib/usage/shard-message.ts";
import { testRun } from "../support/test-run.ts";
import { usageDeps } from "../support/usage-deps.ts";
import { median } from "./compare.ts";

/** As many messages at a time as host.json lets one instance take. */
const CONCURRENCY = 4;
const setting = (name: string): string => process.env[name] ?? "";
const redis = connectRedis({
  upstash: { url: setting("UPSTASH_REDIS_REST_URL"), token: setting("UPSTASH_REDIS_REST_TOKEN") },
});
const { rpc, close } = createRpc({ url: setting("SUPABASE_URL"), key: setting("SUPABASE_KEY") });
const queue: ShardMessage[] = [];
const deps = usageDeps(redis, rpc, queue);

async function reconcile(): Promise<number> {
  const startedAt = performance.now();
  await dispatchShards(deps, testRun());
  const work = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      await reconcileShard(deps, next, testRun());
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, work));
  return performance.now() - startedAt;
}

const first = await reconcile();
const idle = [await reconcile(), await reconcile(), await reconcile()];
const { maxRSS } = process.resourceUsage();
console.log(
  `  reconciled in ${(first / 1000).toFixed(1)} s; nothing to do: ${median(idle).toFixed(0)} ms for 256 shards`,
);
console.log(`  worker memory at its peak: ${Math.round(maxRSS / 1024)} MB`);
await close();
await redis.close();
