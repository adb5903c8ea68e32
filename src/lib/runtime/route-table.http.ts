import type { OpenAPIHono } from "@hono/zod-openapi";
import { ROLES, type Role } from "../kernel/api-keys.ts";
import { invariant } from "../kernel/errors.ts";
import type { WebEnv } from "./routes.http.ts";

/** One operation of an app, as its OpenAPI definition declares it. `role` undefined = public. */
export interface RouteRow {
  readonly method: string;
  readonly path: string;
  readonly role: Role | undefined;
  readonly pattern: RegExp;
  readonly summary: string;
}

/**
 * The routes of an app and the role each needs. Read from the OpenAPI registry, so that a route without a declared
 * role cannot exist.
 */
export function routeTable(app: OpenAPIHono<WebEnv>): readonly RouteRow[] {
  return app.openAPIRegistry.definitions.flatMap((definition) => {
    if (definition.type !== "route") return [];
    const { method, path, security, summary = "" } = definition.route;
    invariant(security !== undefined, `route ${method} ${path} declares no role`);
    const role = roleOf(security);
    invariant(role !== "unknown", `route ${method} ${path} declares a role that is none`);
    return [{ method: method.toUpperCase(), path, role, pattern: patternOf(path), summary }];
  });
}

/** No requirement at all is public; one that names no role of ours must not be taken for that. */
function roleOf(security: readonly Readonly<Record<string, readonly string[]>>[]) {
  if (security.length === 0) return undefined;
  const [scope, ...others] = security.flatMap((scheme) => scheme["apiKey"] ?? []);
  const role = ROLES.find((known) => known === scope);
  return role !== undefined && others.length === 0 ? role : "unknown";
}

const patternOf = (path: string): RegExp => {
  const source = path
    .split(/(\{[^}]+\})/)
    .map((part) => (part.startsWith("{") ? "[^/]+" : part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")))
    .join("");
  return new RegExp(`^${source}$`);
};

export type RouteMatch =
  | { readonly kind: "found"; readonly row: RouteRow }
  | { readonly kind: "method"; readonly allow: string }
  | { readonly kind: "unknown" };

/** HEAD is answered wherever GET is. */
export function matchRoute(rows: readonly RouteRow[], method: string, path: string): RouteMatch {
  const here = rows.filter((row) => row.pattern.test(path));
  const wanted = method === "HEAD" ? "GET" : method;
  const row = here.find((candidate) => candidate.method === wanted);
  if (row !== undefined) return { kind: "found", row };
  if (here.length === 0) return { kind: "unknown" };
  return { kind: "method", allow: allowOf(here) };
}

const allowOf = (here: readonly RouteRow[]): string => {
  const methods = here.flatMap(({ method }) => (method === "GET" ? ["GET", "HEAD"] : [method]));
  return [...new Set(methods)].join(", ");
};
