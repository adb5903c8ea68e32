import type { IncomingMessage, ServerResponse } from "node:http";
import type { CookieData, HttpResponseData } from "./core-types.ts";

/** `FUNCTIONS_REQUEST_BODY_SIZE_LIMIT` changes it. */
export const BODY_BYTES_MAX = 104_857_600;

export type ReadBody =
  | { readonly kind: "body"; readonly body: Buffer | undefined }
  | { readonly kind: "too-large" };

/**
 * Only a body whose length is announced is handed on: a chunked upload arrives empty, here as in Azure, unless the app
 * streams.
 */
export async function readBody(request: IncomingMessage, maxBytes: number): Promise<ReadBody> {
  const announced = Number(request.headers["content-length"] ?? 0);
  if (announced > maxBytes) return { kind: "too-large" };
  if (!(announced > 0)) {
    request.resume();
    return { kind: "body", body: undefined };
  }
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return { kind: "body", body: Buffer.concat(chunks) };
}

/** The absolute URL of a request; undefined when its target or its host is not one. */
export function urlOf(request: IncomingMessage): URL | undefined {
  const target = request.url ?? "/";
  const base = `http://${request.headers.host ?? "localhost"}`;
  const text = target.startsWith("/") ? `${base}${target}` : target;
  return URL.canParse(text) ? new URL(text) : undefined;
}

/** Lower-case names; a repeated header is joined with commas, cookies with semicolons. */
export function headersOf(request: IncomingMessage): Record<string, string> {
  const entries = Object.entries(request.headersDistinct).map(([name, values = []]) => [
    name,
    values.join(name === "cookie" ? "; " : ","),
  ]);
  return Object.fromEntries(entries);
}

/** Answers without a body. */
export function answer(response: ServerResponse, status: number): void {
  response.writeHead(status, { "content-length": 0 }).end();
}

const BODILESS: ReadonlySet<number> = new Set([204, 205, 304]);

/** Writes what a handler returned; nothing returned is 200 without a body. */
export function writeResponse(
  request: IncomingMessage,
  response: ServerResponse,
  data: HttpResponseData | undefined,
): void {
  if (data === undefined) {
    answer(response, 200);
    return;
  }
  const status = Number(data.statusCode) || 200;
  const body = Buffer.from(data.body?.bytes ?? data.body?.string ?? "");
  for (const [name, value] of Object.entries(data.headers)) response.setHeader(name, value);
  if (data.cookies.length > 0) response.setHeader("set-cookie", data.cookies.map(cookieHeader));
  const isBodiless = BODILESS.has(status);
  if (!isBodiless) response.setHeader("content-length", body.length);
  response.writeHead(status);
  response.end(isBodiless || request.method === "HEAD" ? undefined : body);
}

const SAME_SITE = { lax: "Lax", strict: "Strict", explicitNone: "None", none: undefined } as const;

export function cookieHeader(cookie: CookieData): string {
  const { domain, path, expires, maxAge, httpOnly, secure } = cookie;
  const until = expires && new Date(Number(expires.value.seconds) * 1000).toUTCString();
  const sameSite = SAME_SITE[cookie.sameSite ?? "none"];
  const parts = [
    `${cookie.name}=${encodeURIComponent(cookie.value)}`,
    until && `Expires=${until}`,
    maxAge && `Max-Age=${maxAge.value}`,
    domain?.value && `Domain=${domain.value}`,
    path?.value && `Path=${path.value}`,
    secure?.value && "Secure",
    sameSite && `SameSite=${sameSite}`,
    httpOnly?.value && "HttpOnly",
  ];
  return parts.filter(Boolean).join("; ");
}
