import { app } from "@azure/functions";
import { scheduleOf } from "../config.ts";
import { dailyReconciliation } from "../jobs.ts";
import { runScheduledJob } from "../lib/jobs/run-job.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { services } from "../services.ts";

/** Ticks for `daily_reconciliation`. Safe to run twice: one slot is one run. */
app.timer("dailyReconciliation", {
  schedule: scheduleOf("RECONCILIATION_SCHEDULE_DAILY"),
  handler: (_timer, context) =>
    runTrigger(context, (run) => runScheduledJob(services(), dailyReconciliation, run)),
  // For the database: what the work fails with is the ledger's to try again, and then finds the slot taken.
  retry: {
    strategy: "exponentialBackoff",
    maxRetryCount: 5,
    minimumInterval: { seconds: 10 },
    maximumInterval: { minutes: 5 },
  },
});
