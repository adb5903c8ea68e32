import { app } from "@azure/functions";
import { scheduleOf } from "../config.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { raiseUsageAlerts } from "../lib/usage/usage-alerts.ts";
import { services } from "../services.ts";

/** Reports what is wrong with usage and resolves what is over. Safe to run twice: one key is one incident. */
app.timer("usageAlerts", {
  schedule: scheduleOf("USAGE_ALERT_SCHEDULE"),
  handler: (_timer, context) => runTrigger(context, (run) => raiseUsageAlerts(services(), run)),
});
