import { app } from "@azure/functions";
import { unlessCanary } from "../lib/ops/canary.ts";
import { parseMessage } from "../lib/runtime/parse-message.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { ConsolidationMessageSchema } from "../lib/usage/consolidate-message.ts";
import { consolidateShard } from "../lib/usage/consolidate-shard.ts";
import { WORK_QUEUES } from "../queues.ts";
import { services } from "../services.ts";

/** Makes the counters of one shard agree with the ledger. Idempotency: the name of the last repair, in Redis. */
app.storageQueue("consolidateShard", {
  connection: "AzureWebJobsStorage",
  queueName: WORK_QUEUES.usageConsolidations,
  handler: (raw, context) =>
    runTrigger(context, (run) =>
      unlessCanary(services(), raw, run, () =>
        consolidateShard(services(), parseMessage(ConsolidationMessageSchema, raw), run),
      ),
    ),
});
