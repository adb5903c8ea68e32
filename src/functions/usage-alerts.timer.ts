import { app } from "@azure/functions";
import { scheduleOf } from "../config.ts";
import { usageAlerts } from "../jobs.ts";
import { runScheduledJob } from "../lib/jobs/run-job.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { services } from "../services.ts";

/** Ticks for `usage_alerts`. Safe to run twice: one slot is one run. */
app.timer("usageAlerts", {
  schedule: scheduleOf("USAGE_ALERT_SCHEDULE"),
  handler: (_timer, context) =>
    runTrigger(context, (run) => runScheduledJob(services(), usageAlerts, run)),
});
