import { app } from "@azure/functions";
import { settlePoisonedRun } from "../lib/jobs/settle-poisoned-run.ts";
import { unlessCanary } from "../lib/ops/canary.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { poisonQueueOf, WORK_QUEUES } from "../queues.ts";
import { services } from "../services.ts";

/** Takes messages of job runs that the platform gave up on. Safe to run twice. */
app.storageQueue("runJobPoison", {
  connection: "AzureWebJobsStorage",
  queueName: poisonQueueOf(WORK_QUEUES.jobRuns),
  handler: (raw, context) =>
    runTrigger(context, (run) =>
      unlessCanary(services(), raw, run, () => settlePoisonedRun(raw, run)),
    ),
});
