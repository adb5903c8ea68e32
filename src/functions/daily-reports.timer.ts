import { app } from "@azure/functions";
import { scheduleOf } from "../config.ts";
import { dailyReports } from "../jobs.ts";
import { runScheduledJob } from "../lib/jobs/run-job.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { services } from "../services.ts";

/** Ticks for `daily_reports`. Safe to run twice: one slot is one run. */
app.timer("dailyReports", {
  schedule: scheduleOf("DAILY_REPORTS_SCHEDULE"),
  handler: (_timer, context) =>
    runTrigger(context, (run) => runScheduledJob(services(), dailyReports, run)),
});
