import { app } from "@azure/functions";
import { scheduleOf } from "../config.ts";
import { weeklyExport } from "../jobs.ts";
import { runScheduledJob } from "../lib/jobs/run-job.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { services } from "../services.ts";

/** Ticks for `weekly_export`. Safe to run twice: one slot is one run. */
app.timer("weeklyExport", {
  schedule: scheduleOf("WEEKLY_EXPORT_SCHEDULE"),
  handler: (_timer, context) =>
    runTrigger(context, (run) => runScheduledJob(services(), weeklyExport, run)),
});
