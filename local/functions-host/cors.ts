import type { IncomingMessage, ServerResponse } from "node:http";

export interface Cors {
  /** `*` allows every origin. */
  readonly origins: readonly string[];
  readonly hasCredentials: boolean;
}

/** @returns true when the request was a preflight, which is then answered. */
export function applyCors(
  { origins, hasCredentials }: Cors,
  request: IncomingMessage,
  response: ServerResponse,
): boolean {
  const { origin } = request.headers;
  if (origin === undefined || origins.length === 0) return false;
  const isAny = origins.includes("*");
  const isAllowed = isAny || origins.some((it) => it.toLowerCase() === origin.toLowerCase());
  if (isAllowed) {
    response.setHeader("access-control-allow-origin", isAny && !hasCredentials ? "*" : origin);
    response.setHeader("vary", "Origin");
    if (hasCredentials) response.setHeader("access-control-allow-credentials", "true");
  }
  const method = request.headers["access-control-request-method"];
  if (request.method !== "OPTIONS" || method === undefined) return false;
  if (isAllowed) allow(response, method, request.headers["access-control-request-headers"]);
  response.writeHead(204).end();
  return true;
}

function allow(response: ServerResponse, method: string, headers: string | undefined): void {
  response.setHeader("access-control-allow-methods", method);
  if (headers !== undefined) response.setHeader("access-control-allow-headers", headers);
}
