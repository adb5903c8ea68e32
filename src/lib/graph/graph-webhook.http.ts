import { createRoute, type OpenAPIHono } from "@hono/zod-openapi";
import { permanent } from "../kernel/errors.ts";
import { createRoutes, PUBLIC, problem, type WebEnv } from "../runtime/routes.http.ts";

const listen = (path: "/listen" | "/listen/lifecycle") =>
  createRoute({
    method: "post",
    path,
    summary: "Change notifications of Microsoft Graph",
    security: PUBLIC,
    responses: { 503: problem("Graph is not configured; Graph itself delivers again for hours.") },
  });

/**
 * Without Graph settings nothing may be accepted here: answering the validation handshake would let a subscription
 * exist whose mail nobody reads, and a 2xx would tell Graph that its notification is safe. A 503 makes Graph keep it
 * and deliver again.
 */
export function graphWebhookRoutes(): OpenAPIHono<WebEnv> {
  const refuse = (): never => {
    throw permanent("graph_not_configured", { reason: "no GRAPH_* setting is present" });
  };
  return createRoutes()
    .openapi(listen("/listen"), refuse)
    .openapi(listen("/listen/lifecycle"), refuse);
}
