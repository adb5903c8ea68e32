import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { html } from "hono/html";
import { routeTable } from "./route-table.http.ts";
import { createRoutes, ProblemSchema, PUBLIC, type WebEnv } from "./routes.http.ts";

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

/** `/openapi.json` and `/docs` of an app, made from its own routes when somebody asks first. */
export function apiDocsRoutes(app: OpenAPIHono<WebEnv>): OpenAPIHono<WebEnv> {
  let made: ReturnType<typeof describeApi> | undefined;
  app.openAPIRegistry.register("Problem", ProblemSchema);
  return createRoutes()
    .openapi(document, (c) => {
      made ??= describeApi(app);
      return c.json(made, 200);
    })
    .openapi(page, (c) => c.html(renderPage(app)));
}

const METHODS = ["get", "put", "post", "delete", "patch"] as const;

/** The document of the routes, completed with the problems that the shell around them answers. */
function describeApi(app: OpenAPIHono<WebEnv>) {
  const described = app.getOpenAPI31Document(INFO);
  for (const path of Object.values(described.paths ?? {})) {
    for (const method of METHODS) {
      const operation = path[method];
      if (operation !== undefined)
        operation.responses = { ...shellProblems(operation), ...operation.responses };
    }
  }
  return described;
}

interface Operation {
  readonly parameters?: readonly unknown[];
  readonly requestBody?: unknown;
  readonly security?: readonly unknown[];
}

function shellProblems({ parameters = [], requestBody, security = [] }: Operation) {
  const hasInput = parameters.length > 0 || requestBody !== undefined;
  return {
    ...(hasInput && { 400: described("A field is not valid; `errors` names each.") }),
    ...(security.length > 0 && {
      401: described("The key is missing or not known."),
      403: described("The key does not have the role."),
      500: described("A fault of the service; the log has `runId`."),
      503: described("A backend does not answer; try again after `Retry-After` seconds."),
    }),
    ...(requestBody !== undefined && {
      413: described("The body has more than 1 MiB."),
      415: described("The body is not JSON."),
    }),
  };
}

const PROBLEM_CONTENT = {
  "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } },
};
const described = (description: string) => ({ description, content: PROBLEM_CONTENT });

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
