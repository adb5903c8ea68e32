import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { html } from "hono/html";
import { routeTable } from "./route-table.http.ts";
import { createRoutes, PUBLIC, type WebEnv } from "./routes.http.ts";

const document = createRoute({
  method: "get",
  path: "/openapi.json",
  summary: "This API as an OpenAPI 3.1 document",
  security: PUBLIC,
  responses: { 200: { description: "The document." } },
});

const page = createRoute({
  method: "get",
  path: "/docs",
  summary: "This API as a page",
  security: PUBLIC,
  responses: {
    200: { description: "The page.", content: { "text/html": { schema: z.string() } } },
  },
});

const INFO = {
  openapi: "3.1.0",
  info: { title: "worker-service", version: "1", description: "Management API of worker-service." },
} as const;

/** `/openapi.json` and `/docs` of an app, made from its own routes. */
export const apiDocsRoutes = (app: OpenAPIHono<WebEnv>): OpenAPIHono<WebEnv> =>
  createRoutes()
    .openapi(document, (c) => c.json(app.getOpenAPI31Document(INFO), 200))
    .openapi(page, (c) => c.html(renderPage(app)));

/** Self-contained: no script and nothing from another host. */
function renderPage(app: OpenAPIHono<WebEnv>) {
  const rows = routeTable(app).map(
    ({ method, path, role, summary }) =>
      html`<tr><td><code>${method}</code></td><td><code>${path}</code></td><td>${role ?? "anybody"}</td><td>${summary}</td></tr>`,
  );
  return html`<!doctype html><html lang="en"><head><meta charset="utf-8"><title>worker-service API</title>
<style>body{font:16px/1.5 system-ui;margin:2rem auto;max-width:70rem;padding:0 1rem}table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.4rem .8rem;border-bottom:1px solid #ddd;vertical-align:top}</style>
</head><body><h1>worker-service API</h1>
<p>Send a key in <code>x-api-key</code>. Errors are problem details with a stable <code>code</code>. The whole contract: <a href="openapi.json">openapi.json</a>.</p>
<table><thead><tr><th>Method</th><th>Path</th><th>Role</th><th>What it does</th></tr></thead><tbody>${rows}</tbody></table></body></html>`;
}
