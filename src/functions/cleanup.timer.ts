import { app } from "@azure/functions";
import { scheduleOf } from "../config.ts";
import { cleanup } from "../jobs.ts";
import { runScheduledJob } from "../lib/jobs/run-job.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { services } from "../services.ts";

/** Ticks for `cleanup`. Safe to run twice: one slot is one run. */
app.timer("cleanup", {
  schedule: scheduleOf("CLEANUP_SCHEDULE"),
  handler: (_timer, context) =>
    runTrigger(context, (run) => runScheduledJob(services(), cleanup, run)),
});
