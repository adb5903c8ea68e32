import { join } from "node:path";
import { StartError } from "../backends/start-error.ts";
import { isObject, type JsonObject, keyOf, readJsonFile, valueAt } from "./json-file.ts";
import type { Environment } from "./settings.ts";
import { parseTimeSpan } from "./time-span.ts";

export interface QueueSettings {
  /** Messages fetched at a time, 1 to 32. */
  readonly batchSize: number;
  /** The next fetch happens when this many are left. */
  readonly newBatchThreshold: number;
  /** Attempts before a message goes to the poison queue. */
  readonly maxDequeueCount: number;
  /** Milliseconds until a failed message is tried again. */
  readonly visibilityTimeoutMs: number;
  readonly maxPollingIntervalMs: number;
  readonly messageEncoding: "base64" | "none";
}

export interface HostJson {
  readonly routePrefix: string;
  /** Undefined = none. */
  readonly functionTimeoutMs: number | undefined;
  /** Lower-case names, when only some functions are to run. */
  readonly allowedFunctions: ReadonlySet<string> | undefined;
  readonly customHeaders: Readonly<Record<string, string>>;
  readonly queues: QueueSettings;
}

const DEFAULT_TIMEOUT = "00:30:00";
const MIN_POLLING_MS = 100;
const OVERRIDE = /^AzureFunctionsJobHost__(.+)$/i;

/**
 * Reads host.json, with every setting `AzureFunctionsJobHost__a__b` laid over it.
 *
 * @throws StartError that names the key.
 */
export function readHostJson(dir: string, env: Environment): HostJson {
  const file = join(dir, "host.json");
  const root = readJsonFile(file);
  if (root === undefined) throw new StartError(`${file} is missing.`);
  if (root["version"] !== "2.0") {
    throw new StartError(`${file}: "version" must be the string "2.0".`);
  }
  applyOverrides(root, env);
  const read = reader(root, file);
  return {
    routePrefix: read.text("extensions.http.routePrefix", "api").replace(/^\/+|\/+$/g, ""),
    functionTimeoutMs: readTimeout(read),
    allowedFunctions: readAllowed(root),
    customHeaders: readHeaders(root),
    queues: readQueues(read),
  };
}

/** Overrides are strings; a list is addressed by index (`functions__0`). */
function applyOverrides(root: JsonObject, env: Environment): void {
  for (const [name, value] of Object.entries(env)) {
    const path = OVERRIDE.exec(name)?.[1]?.split("__") ?? [];
    const last = path.pop();
    if (last === undefined || value === undefined) continue;
    const node = path.reduce(childObject, root);
    node[keyOf(node, last)] = value;
  }
}

function childObject(node: JsonObject, key: string): JsonObject {
  const name = keyOf(node, key);
  const child = node[name];
  const object = Array.isArray(child) ? { ...child } : isObject(child) ? child : {};
  node[name] = object;
  return object;
}

interface Reader {
  text(key: string, fallback: string): string;
  integer(key: string, min: number, max: number, fallback: number): number;
  /** Milliseconds. */
  span(key: string, min: number, fallback: string): number;
}

function reader(root: JsonObject, file: string): Reader {
  const get = (key: string) => valueAt(root, key.split("."));
  const refuse = (key: string, what: string) =>
    new StartError(`${file}: "${key}" must be ${what}.`);
  return {
    text: (key, fallback) => {
      const value = get(key) ?? fallback;
      if (typeof value === "string") return value;
      throw refuse(key, "a string");
    },
    integer: (key, min, max, fallback) => {
      const value = get(key) ?? fallback;
      const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
      const isFine = Number.isInteger(number) && Number(number) >= min && Number(number) <= max;
      if (isFine) return Number(number);
      throw refuse(key, `a whole number from ${min} to ${max}`);
    },
    span: (key, min, fallback) => {
      const value = get(key) ?? fallback;
      const ms = typeof value === "string" ? parseTimeSpan(value) : undefined;
      if (ms !== undefined && ms >= min) return ms;
      throw refuse(
        key,
        `a time span such as "${fallback}"${min === 0 ? "" : `, at least ${min} ms`}`,
      );
    },
  };
}

function readTimeout(read: Reader): number | undefined {
  const isUnlimited = read.text("functionTimeout", DEFAULT_TIMEOUT) === "-1";
  return isUnlimited ? undefined : read.span("functionTimeout", 1000, DEFAULT_TIMEOUT);
}

function readAllowed(root: JsonObject): ReadonlySet<string> | undefined {
  const names = valueAt(root, ["functions"]);
  if (typeof names !== "object" || names === null) return undefined;
  return new Set(Object.values(names).map((name) => String(name).toLowerCase()));
}

function readHeaders(root: JsonObject): Record<string, string> {
  const headers = valueAt(root, ["extensions", "http", "customHeaders"]);
  if (!isObject(headers)) return {};
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
}

function readQueues(read: Reader): QueueSettings {
  const key = (name: string) => `extensions.queues.${name}`;
  const batchSize = read.integer(key("batchSize"), 1, 32, 16);
  const encoding = read.text(key("messageEncoding"), "base64").toLowerCase();
  if (encoding !== "base64" && encoding !== "none") {
    throw new StartError(`host.json: "${key("messageEncoding")}" must be base64 or none.`);
  }
  return {
    batchSize,
    newBatchThreshold: read.integer(key("newBatchThreshold"), 0, 1000, Math.floor(batchSize / 2)),
    maxDequeueCount: read.integer(key("maxDequeueCount"), 1, 1000, 5),
    visibilityTimeoutMs: read.span(key("visibilityTimeout"), 0, "00:00:00"),
    maxPollingIntervalMs: read.span(key("maxPollingInterval"), MIN_POLLING_MS, "00:01:00"),
    messageEncoding: encoding,
  };
}
