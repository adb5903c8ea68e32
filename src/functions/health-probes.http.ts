import { app } from "@azure/functions";
import { probeRoutes } from "../lib/ops/probes.http.ts";
import { createWebApp, HTTP_METHODS, mountWebApp } from "../lib/runtime/web-app.http.ts";
import { services } from "../services.ts";

const web = createWebApp({ settings: () => services().config.http });
web.route("/", probeRoutes(services));

app.http("healthProbes", {
  methods: HTTP_METHODS,
  authLevel: "anonymous", // load balancers hold no key, and nothing secret is answered
  route: "{probe:regex(^(health|healthz|readyz)$)}",
  // Polled all day: a line for each good answer would bury the others.
  handler: mountWebApp(web, { isRoutine: ({ status }) => status === 200 }),
});
