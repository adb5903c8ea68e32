import { app } from "@azure/functions";
import { graphWebhookRoutes } from "../lib/graph/graph-webhook.http.ts";
import { createWebApp, HTTP_METHODS, mountWebApp } from "../lib/runtime/web-app.http.ts";
import { services } from "../services.ts";

const web = createWebApp({ settings: () => services().config.http });
web.route("/", graphWebhookRoutes());

app.http("graphWebhook", {
  methods: HTTP_METHODS,
  authLevel: "anonymous", // Graph sends no key; each notification is verified by its client state
  route: "listen/{*path}",
  handler: mountWebApp(web),
});
