import { app } from "@azure/functions";
import { scheduleOf } from "../config.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { startMonthlyAudit } from "../lib/usage/audit-start.ts";
import { services } from "../services.ts";

/** Starts the audit of the month before, and the dropping of old events; a queue does the work. Safe to run twice. */
app.timer("monthlyAudit", {
  schedule: scheduleOf("RECONCILIATION_SCHEDULE_MONTHLY"),
  handler: (_timer, context) => runTrigger(context, (run) => startMonthlyAudit(services(), run)),
  retry: {
    strategy: "exponentialBackoff",
    maxRetryCount: 5,
    minimumInterval: { seconds: 10 },
    maximumInterval: { minutes: 5 },
  },
});
