// A worker that does nothing but reconcile, over the REST interfaces, until it is killed. Prints READY when it starts.
import { connectRedis } from "../../src/lib/runtime/connect.redis.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { dispatchShards } from "../../src/lib/usage/dispatch-shards.ts";
import { reconcileShard } from "../../src/lib/usage/reconcile-shard.ts";
import type { ShardMessage } from "../../src/lib/usage/shard-message.ts";
import { testRun } from "../support/test-run.ts";
import { usageDeps } from "../support/usage-deps.ts";

const [redisUrl, redisToken, supabaseUrl, supabaseKey] = process.argv.slice(2).map(String);
const redis = connectRedis({ upstash: { url: redisUrl ?? "", token: redisToken ?? "" } });
const { rpc } = createRpc({ url: supabaseUrl ?? "", key: supabaseKey ?? "" });
const queue: ShardMessage[] = [];
const deps = usageDeps(redis, rpc, queue, { batchMax: 5, leaseTtlMs: 1, retainHours: 24 });
process.stdin.resume().on("end", () => process.exit(0));
console.log("READY");
for (;;) {
  await dispatchShards(deps, testRun());
  for (const message of queue.splice(0)) await reconcileShard(deps, message, testRun());
}
