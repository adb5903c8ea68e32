import type { Context } from "hono";
import { type ApiKey, findApiKey, isGranted, isInScope } from "../kernel/api-keys.ts";
import { permanent } from "../kernel/errors.ts";
import { isTokenShaped, type Tokens } from "./entra-tokens.ts";
import { matchRoute, type RouteRow } from "./route-table.http.ts";
import type { Caller, WebEnv } from "./routes.http.ts";

/** Whom an app lets in. */
export interface Admission {
  readonly apiKeys: readonly ApiKey[];
  /** Absent = tokens are refused like any unknown key. */
  readonly tokens?: Tokens;
}

/**
 * 404 before 405 before 401 before 403: a route that does not exist needs no key to say so.
 */
export const authorise = async (
  rows: readonly RouteRow[],
  admission: Admission,
  c: Context<WebEnv>,
  next: () => Promise<void>,
): Promise<void> => {
  const match = matchRoute(rows, c.req.method, c.req.path);
  if (match.kind === "unknown") throw permanent("route_unknown");
  if (match.kind === "method") throw permanent("method_not_allowed", { allow: match.allow });
  const { row } = match;
  c.env.run.note({ route: `${row.method} ${row.path}` });
  if (row.role === undefined) return next();
  const caller = await callerOf(c, admission);
  if (caller === undefined) throw permanent("credentials_missing");
  c.env.run.note({ caller: caller.name });
  if (!isGranted(caller.role, row.role)) {
    throw permanent("role_missing", { reason: `this needs the role ${row.role}` });
  }
  if (!isInScope(caller.scopes, row.path)) {
    throw permanent("scope_missing", { reason: `the key is for ${caller.scopes?.join(", ")}` });
  }
  c.set("caller", caller);
  return next();
};

async function callerOf(c: Context<WebEnv>, admission: Admission): Promise<Caller | undefined> {
  const bearer = /^Bearer (\S+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
  const secret = c.req.header("x-api-key") ?? bearer;
  if (secret === undefined) return undefined;
  const { apiKeys, tokens } = admission;
  if (secret === bearer && tokens !== undefined && isTokenShaped(secret))
    return tokens.verify(secret);
  const key = findApiKey(apiKeys, secret);
  if (key === undefined) return undefined;
  const { name, role, scopes } = key;
  return { name, role, ...(scopes === undefined ? {} : { scopes }) };
}
