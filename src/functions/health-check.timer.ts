import { app } from "@azure/functions";
import { scheduleOf } from "../config.ts";
import { healthCheck } from "../jobs.ts";
import { runScheduledJob } from "../lib/jobs/run-job.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { services } from "../services.ts";

/** Ticks for `health_check`. Safe to run twice: one slot is one run. */
app.timer("healthCheck", {
  schedule: scheduleOf("HEALTH_CHECK_SCHEDULE"),
  handler: (_timer, context) =>
    runTrigger(context, (run) => runScheduledJob(services(), healthCheck, run)),
});
