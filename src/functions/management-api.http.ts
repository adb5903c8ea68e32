import { app } from "@azure/functions";
import { documentRoutes } from "../lib/documents/documents.http.ts";
import { searchRoutes } from "../lib/documents/search.http.ts";
import { jobActionRoutes } from "../lib/jobs/job-actions.http.ts";
import { jobRoutes } from "../lib/jobs/jobs.http.ts";
import { alertRoutes } from "../lib/ops/alerts.http.ts";
import { auditLogRoutes } from "../lib/ops/audit-log.http.ts";
import { exportRoutes } from "../lib/ops/exports.http.ts";
import { reportRoutes } from "../lib/ops/reports.http.ts";
import { statusRoutes } from "../lib/ops/status.http.ts";
import { deadLetterRoutes } from "../lib/queue/dead-letters.http.ts";
import { workRoutes } from "../lib/queue/work.http.ts";
import { apiDocsRoutes } from "../lib/runtime/api-docs.http.ts";
import { createWebApp, HTTP_METHODS, mountWebApp } from "../lib/runtime/web-app.http.ts";
import { auditRoutes } from "../lib/usage/audit.http.ts";
import { periodRoutes } from "../lib/usage/close-period.http.ts";
import { legacyRoutes } from "../lib/usage/legacy/legacy.http.ts";
import { quarantineRoutes } from "../lib/usage/quarantine.http.ts";
import { usageRoutes } from "../lib/usage/usage.http.ts";
import { driftRoutes } from "../lib/usage/usage-drift.http.ts";
import { usageExplainRoutes } from "../lib/usage/usage-explain.http.ts";
import { services } from "../services.ts";

const web = createWebApp({ settings: () => services().admission });
web.route("/", legacyRoutes(services)); // before /usage/{tenant}
web.route("/", driftRoutes(services)); // before /usage/{tenant}
web.route("/", auditRoutes(services)); // before /usage/{tenant}
web.route("/", periodRoutes(services)); // before /usage/{tenant}
web.route("/", usageRoutes(services));
web.route("/", usageExplainRoutes(services));
web.route("/", quarantineRoutes(services));
web.route("/", workRoutes(services));
web.route("/", deadLetterRoutes(services));
web.route("/", alertRoutes(services));
web.route("/", reportRoutes(services));
web.route("/", exportRoutes(services));
web.route("/", jobRoutes(services));
web.route("/", jobActionRoutes(services));
web.route("/", statusRoutes(services));
web.route("/", auditLogRoutes(services));
web.route("/", searchRoutes(services)); // before /documents/{id}
web.route("/", documentRoutes(services));
web.route("/", apiDocsRoutes(web));

// The name sorts last on purpose: the host tries routes in the order of the function names, and this one takes all.
app.http("managementApi", {
  methods: HTTP_METHODS,
  authLevel: "anonymous", // keys and tokens are checked, with roles, by createWebApp
  route: "{*path}",
  handler: mountWebApp(web),
});
