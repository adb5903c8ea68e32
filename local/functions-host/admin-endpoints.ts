import type { IncomingMessage, ServerResponse } from "node:http";
import { HOST_VERSION } from "./core-module.ts";
import type { HostedFunction } from "./hosted-function.ts";
import { readBody } from "./http-messages.ts";
import { isObject } from "./json-file.ts";

export interface AdminDeps {
  readonly hostId: string;
  readonly functions: readonly HostedFunction[];
  /** Starts a run; its end is not waited for. */
  readonly run: (fn: HostedFunction, input: unknown) => void;
}

const INPUT_BYTES_MAX = 1_048_576;

/** The `/admin` endpoints of the host: its state, its functions, and a run of any of them. */
export async function answerAdmin(
  deps: AdminDeps,
  request: IncomingMessage,
  response: ServerResponse,
  pathname: string,
): Promise<void> {
  const path = pathname.toLowerCase().replace(/\/+$/, "");
  if (path === "/admin/host/ping") return reply(response, 200);
  if (path === "/admin/host/status") return reply(response, 200, hostStatus(deps));
  if (path === "/admin/functions") return reply(response, 200, deps.functions.map(describe));
  const [, name, status] = /^\/admin\/functions\/([^/]+)(\/status)?$/.exec(path) ?? [];
  const fn = deps.functions.find((it) => it.name.toLowerCase() === name);
  if (fn === undefined) return reply(response, 404);
  if (request.method === "GET") {
    return reply(response, 200, status === undefined ? describe(fn) : { errors: [] });
  }
  if (request.method !== "POST" || status !== undefined) return reply(response, 404);
  const input = await readInput(request);
  if (input === undefined) return reply(response, 400);
  deps.run(fn, input["input"]);
  reply(response, 202);
}

function reply(response: ServerResponse, status: number, value?: unknown): void {
  const body = value === undefined ? "" : JSON.stringify(value);
  response.writeHead(status, { "content-type": "application/json" }).end(body);
}

const hostStatus = ({ hostId }: AdminDeps) => ({
  id: hostId,
  state: "Running",
  version: HOST_VERSION,
  processUptime: Math.round(process.uptime() * 1000),
});

const describe = ({ name, isDisabled, bindings }: HostedFunction) => ({
  name,
  language: "node",
  isDisabled,
  config: { bindings },
});

async function readInput(request: IncomingMessage): Promise<Record<string, unknown> | undefined> {
  const read = await readBody(request, INPUT_BYTES_MAX);
  if (read.kind === "too-large" || read.body === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(read.body.toString());
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
