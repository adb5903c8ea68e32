import { app } from "@azure/functions";
// The HTTP functions first: their library gives every zod schema that is made later its name in the API document.
import "./functions/graph-webhook.http.ts";
import "./functions/health-probes.http.ts";
import "./functions/management-api.http.ts";
import "./functions/audit-period-poison.queue.ts";
import "./functions/audit-period.queue.ts";
import "./functions/cleanup.timer.ts";
import "./functions/consolidate-shard-poison.queue.ts";
import "./functions/consolidate-shard.queue.ts";
import "./functions/daily-reconciliation.timer.ts";
import "./functions/daily-reports.timer.ts";
import "./functions/drain-legacy-usage-poison.queue.ts";
import "./functions/drain-legacy-usage.queue.ts";
import "./functions/health-check.timer.ts";
import "./functions/monthly-audit.timer.ts";
import "./functions/observe-usage.timer.ts";
import "./functions/process-work.queue.ts";
import "./functions/reconcile-shard-poison.queue.ts";
import "./functions/reconcile-shard.queue.ts";
import "./functions/run-job-poison.queue.ts";
import "./functions/run-job.queue.ts";
import "./functions/sweep-documents.timer.ts";
import "./functions/sweep-work.timer.ts";
import "./functions/usage-alerts.timer.ts";
import "./functions/weekly-consolidation.timer.ts";
import "./functions/weekly-export.timer.ts";
import { loadConfig, unknownSettings } from "./config.ts";
import { closeServices, configure, noteInvocation } from "./services.ts";

// The imports above register every function before this line runs: a bad setting then fails the start and is named,
// where a throw before the first registration would look like an app without functions.
configure(loadConfig(), unknownSettings());
app.hook.preInvocation(() => noteInvocation());
app.hook.appTerminate(() => closeServices());
