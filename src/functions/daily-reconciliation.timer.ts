import { app } from "@azure/functions";
import { scheduleOf } from "../config.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { dispatchShards } from "../lib/usage/dispatch-shards.ts";
import { services } from "../services.ts";

/** Sends one message per usage shard with work; the shard queue does the work. Safe to run twice. */
app.timer("dailyReconciliation", {
  schedule: scheduleOf("RECONCILIATION_SCHEDULE_DAILY"),
  handler: (_timer, context) => runTrigger(context, (run) => dispatchShards(services(), run)),
  retry: {
    strategy: "exponentialBackoff",
    maxRetryCount: 5,
    minimumInterval: { seconds: 10 },
    maximumInterval: { minutes: 5 },
  },
});
