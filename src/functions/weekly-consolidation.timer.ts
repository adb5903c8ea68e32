import { app } from "@azure/functions";
import { scheduleOf } from "../config.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { dispatchConsolidation } from "../lib/usage/consolidate-dispatch.ts";
import { services } from "../services.ts";

/** Sends one message per shard with counters; their queue does the work. Safe to run twice. */
app.timer("weeklyConsolidation", {
  schedule: scheduleOf("RECONCILIATION_SCHEDULE_WEEKLY"),
  handler: (_timer, context) =>
    runTrigger(context, async (run) => {
      await dispatchConsolidation(services(), { trigger: "timer", apply: true }, run);
    }),
  retry: {
    strategy: "exponentialBackoff",
    maxRetryCount: 5,
    minimumInterval: { seconds: 10 },
    maximumInterval: { minutes: 5 },
  },
});
