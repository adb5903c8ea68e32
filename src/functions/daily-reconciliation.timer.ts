import { app } from "@azure/functions";
import { scheduleOf } from "../config.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { closeDuePeriods } from "../lib/usage/close-period.ts";
import { dispatchShards } from "../lib/usage/dispatch-shards.ts";
import { dispatchLegacy } from "../lib/usage/legacy/dispatch-legacy.ts";
import { services } from "../services.ts";

/**
 * Sends one message per usage shard with work, then one for the legacy lanes; queues do the work. Closes the months whose
 * time has come. Safe to run twice.
 */
app.timer("dailyReconciliation", {
  schedule: scheduleOf("RECONCILIATION_SCHEDULE_DAILY"),
  handler: (_timer, context) =>
    runTrigger(context, async (run) => {
      await dispatchShards(services(), run);
      await dispatchLegacy(services(), run);
      await closeDuePeriods(services(), run);
    }),
  retry: {
    strategy: "exponentialBackoff",
    maxRetryCount: 5,
    minimumInterval: { seconds: 10 },
    maximumInterval: { minutes: 5 },
  },
});
