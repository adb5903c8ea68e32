import { app } from "@azure/functions";
import { unlessCanary } from "../lib/ops/canary.ts";
import { parseMessage } from "../lib/runtime/parse-message.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { reconcileShard } from "../lib/usage/reconcile-shard.ts";
import { ShardMessageSchema } from "../lib/usage/shard-message.ts";
import { WORK_QUEUES } from "../queues.ts";
import { services } from "../services.ts";

/** Books everything new of one shard. Idempotency: the cursor of the shard moves with the ledger rows. */
app.storageQueue("reconcileShard", {
  connection: "AzureWebJobsStorage",
  queueName: WORK_QUEUES.usageShards,
  handler: (raw, context) =>
    runTrigger(context, (run) =>
      unlessCanary(services(), raw, run, () =>
        reconcileShard(services(), parseMessage(ShardMessageSchema, raw), run),
      ),
    ),
});
