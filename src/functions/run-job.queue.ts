import { app } from "@azure/functions";
import { JOBS } from "../jobs.ts";
import { JobRunMessageSchema } from "../lib/jobs/job-message.ts";
import { runQueuedJob } from "../lib/jobs/run-job.ts";
import { unlessCanary } from "../lib/ops/canary.ts";
import { parseMessage } from "../lib/runtime/parse-message.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { WORK_QUEUES } from "../queues.ts";
import { services } from "../services.ts";

/** Runs what was started by hand, what is to be tried again and what a silent timer owes. Idempotency: the run's row. */
app.storageQueue("runJob", {
  connection: "AzureWebJobsStorage",
  queueName: WORK_QUEUES.jobRuns,
  handler: (raw, context) =>
    runTrigger(context, (run) =>
      unlessCanary(services(), raw, run, () =>
        runQueuedJob(services(), JOBS, parseMessage(JobRunMessageSchema, raw), run),
      ),
    ),
});
