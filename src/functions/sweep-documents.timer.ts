import { app } from "@azure/functions";
import { scheduleOf } from "../config.ts";
import { sweepWaitingDocuments } from "../jobs.ts";
import { runScheduledJob } from "../lib/jobs/run-job.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { services } from "../services.ts";

/** Ticks for `sweep_documents`. Safe to run twice: one slot is one run. */
app.timer("sweepDocuments", {
  schedule: scheduleOf("DOCUMENT_SWEEP_SCHEDULE"),
  handler: (_timer, context) =>
    runTrigger(context, (run) => runScheduledJob(services(), sweepWaitingDocuments, run)),
});
