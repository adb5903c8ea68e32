import { app } from "@azure/functions";
import { scheduleOf } from "../config.ts";
import { sweepWorkItems } from "../jobs.ts";
import { runScheduledJob } from "../lib/jobs/run-job.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { services } from "../services.ts";

/** Ticks for `sweep_work`. Safe to run twice: one slot is one run. */
app.timer("sweepWork", {
  schedule: scheduleOf("WORK_SWEEP_SCHEDULE"),
  handler: (_timer, context) =>
    runTrigger(context, (run) => runScheduledJob(services(), sweepWorkItems, run)),
});
