import { app } from "@azure/functions";
import { scheduleOf } from "../config.ts";
import { runTrigger } from "../lib/runtime/run-trigger.ts";
import { observeShards } from "../lib/usage/observe-shards.ts";
import { services } from "../services.ts";

/** Verifies and remembers how far every log is. Safe to run twice; a missed minute only widens the window. */
app.timer("observeUsage", {
  schedule: scheduleOf("USAGE_OBSERVE_SCHEDULE"),
  handler: (_timer, context) => runTrigger(context, (run) => observeShards(services(), run)),
});
