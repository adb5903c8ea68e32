import { createHash } from "node:crypto";
import {
  type Cookie,
  type HttpHandler,
  HttpRequest,
  InvocationContext,
  type LogLevel,
} from "@azure/functions";
import type { OpenAPIHono } from "@hono/zod-openapi";
import { type ApiKey, ROLES, type Role } from "../../src/lib/kernel/api-keys.ts";
import type { WebEnv } from "../../src/lib/runtime/routes.http.ts";
import { runTrigger } from "../../src/lib/runtime/run-trigger.ts";
import { mountWebApp } from "../../src/lib/runtime/web-app.http.ts";

/** One secret for each role. */
export const SECRETS: Record<Role, string> = {
  producer: "wsk_producer_secret",
  viewer: "wsk_viewer_secret",
  operator: "wsk_operator_secret",
  admin: "wsk_admin_secret",
};

export const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

export const API_KEYS: readonly ApiKey[] = ROLES.map((role) => ({
  name: `the-${role}`,
  role,
  sha256: sha256(SECRETS[role]),
}));

export interface Line {
  readonly level: LogLevel;
  readonly fields: Record<string, unknown>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** What the run wrote. */
  readonly lines: readonly Line[];
  json(): Record<string, unknown>;
}

export interface Sent {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Uint8Array;
}

export type Send = (path: string, sent?: Sent) => Promise<Answer>;

const ORIGIN = "http://worker.test";

/** A real context of the library, and the lines that were logged through it. */
export function invocation(functionName = "managementApi") {
  const lines: Line[] = [];
  const logHandler = (level: LogLevel, ...args: unknown[]) =>
    void lines.push({ level, fields: JSON.parse(args.map(String).join(" ")) });
  return { lines, context: new InvocationContext({ functionName, logHandler }) };
}

const answerOf = (
  status: number,
  headers: Headers,
  text: string,
  lines: readonly Line[],
): Answer => ({ status, headers, text, lines, json: () => JSON.parse(text) });

/** Through the handler that Azure calls, with the request as the library builds it. */
export const sendToHandler =
  (handler: HttpHandler): Send =>
  async (path, { method = "GET", headers = {}, body } = {}) => {
    const { context, lines } = invocation();
    const bytes = typeof body === "string" ? Buffer.from(body) : body;
    const init = { method, url: `${ORIGIN}${path}`, headers };
    const request = new HttpRequest(bytes === undefined ? init : { ...init, body: { bytes } });
    const response = (await handler(request, context)) as {
      status: number;
      headers: Record<string, string>;
      body: Uint8Array;
      cookies?: Cookie[];
    };
    const text = Buffer.from(response.body).toString();
    return answerOf(response.status, new Headers(response.headers), text, lines);
  };

export const sendMounted = (app: OpenAPIHono<WebEnv>): Send => sendToHandler(mountWebApp(app));

/** Straight to the app; a body goes without a length, as a chunked upload does. */
export const sendDirect =
  (app: OpenAPIHono<WebEnv>): Send =>
  async (path, { method = "GET", headers = {}, body } = {}) => {
    const { context, lines } = invocation();
    const request = new Request(`${ORIGIN}${path}`, { method, headers, body: body ?? null });
    const response = await runTrigger(context, async (run) => app.fetch(request, { run }));
    return answerOf(response.status, response.headers, await response.text(), lines);
  };
