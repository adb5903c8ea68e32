import { app } from "@azure/functions";
import "./functions/daily-reconciliation.timer.ts";
import "./functions/drain-legacy-usage.queue.ts";
import "./functions/drain-legacy-usage-poison.queue.ts";
import "./functions/graph-webhook.http.ts";
import "./functions/health-probes.http.ts";
import "./functions/management-api.http.ts";
import "./functions/reconcile-shard.queue.ts";
import "./functions/reconcile-shard-poison.queue.ts";
import { loadConfig, unknownSettings } from "./config.ts";
import { startLogger } from "./lib/runtime/start-logger.ts";
import { closeServices, configure } from "./services.ts";

// The imports above register every function before this line runs: a bad setting then fails the start and is named,
// where a throw before the first registration would look like an app without functions.
const config = loadConfig();
configure(config);
const log = startLogger();
for (const setting of unknownSettings()) log.warn("setting_unknown", { setting });
if (!config.usage.isTrackingEnabled) {
  log.warn("usage_tracking_disabled", { setting: "ENABLE_USAGE_TRACKING" });
}
app.hook.appTerminate(() => closeServices());
