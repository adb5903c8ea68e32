import { app } from "@azure/functions";
import { scheduleOf } from "../config.ts";
import { observeUsage } from "../jobs.ts";
import { runScheduledJob } from "../lib/jobs/run-job.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { services } from "../services.ts";

/** Ticks for `observe_usage`. Safe to run twice: one slot is one run. */
app.timer("observeUsage", {
  schedule: scheduleOf("USAGE_OBSERVE_SCHEDULE"),
  handler: (_timer, context) =>
    runTrigger(context, (run) => runScheduledJob(services(), observeUsage, run)),
});
