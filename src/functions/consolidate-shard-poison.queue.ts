import { app } from "@azure/functions";
import { unlessCanary } from "../lib/ops/canary.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { settlePoisonedShard } from "../lib/usage/settle-poisoned-shard.ts";
import { poisonQueueOf, WORK_QUEUES } from "../queues.ts";
import { services } from "../services.ts";

/** Takes consolidation messages that the platform gave up on into our books. Safe to run twice. */
app.storageQueue("consolidateShardPoison", {
  connection: "AzureWebJobsStorage",
  queueName: poisonQueueOf(WORK_QUEUES.usageConsolidations),
  handler: (raw, context) =>
    runTrigger(context, (run) =>
      unlessCanary(services(), raw, run, () => settlePoisonedShard(services(), raw, run)),
    ),
});
