import { join } from "node:path";
import { StartError } from "../backends/start-error.ts";
import { isObject, type JsonObject, readJsonFile } from "./json-file.ts";

export type Environment = Record<string, string | undefined>;

/** The `Host` section of local.settings.json. */
export interface LocalHostSettings {
  readonly port?: number;
  readonly cors?: string;
  readonly hasCorsCredentials: boolean;
}

/**
 * Lays the values of local.settings.json under the environment, as `func start` does: a variable that is set and not
 * empty wins, null values are left out. The environment changes in place, because the app reads it there.
 */
export function applyLocalSettings(dir: string, env: Environment): LocalHostSettings {
  const file = join(dir, "local.settings.json");
  const local = readJsonFile(file);
  if (local !== undefined && local["IsEncrypted"] !== false) {
    throw new StartError(
      `${file}: "IsEncrypted" must be false (when it is missing it means true).`,
    );
  }
  for (const [name, value] of settingsOf(local ?? {}, file)) {
    if (!env[name]) env[name] = value;
  }
  env["AZURE_FUNCTIONS_ENVIRONMENT"] = "Development";
  const host = isObject(local?.["Host"]) ? local["Host"] : {};
  return {
    ...(host["LocalHttpPort"] === undefined ? {} : { port: Number(host["LocalHttpPort"]) }),
    ...(typeof host["CORS"] === "string" ? { cors: host["CORS"] } : {}),
    hasCorsCredentials: host["CORSCredentials"] === true,
  };
}

function settingsOf(local: JsonObject, file: string): [string, string][] {
  const connections = Object.entries(section(local, "ConnectionStrings", file));
  const entries = [
    ["FUNCTIONS_WORKER_RUNTIME", "node"] as [string, unknown],
    ...Object.entries(section(local, "Values", file)),
    ...connections.map(([name, value]): [string, unknown] => [`ConnectionStrings:${name}`, value]),
  ];
  return entries.flatMap(([name, value]): [string, string][] => {
    if (value === null) return [];
    if (typeof value !== "object") return [[name, String(value)]];
    throw new StartError(`${file}: the value of "${name}" must be a string.`);
  });
}

function section(local: JsonObject, name: string, file: string): JsonObject {
  const value = local[name] ?? {};
  if (isObject(value)) return value;
  throw new StartError(`${file}: "${name}" must be an object of strings.`);
}

/** The value of a setting. The case of the name does not count, and `:` may be written as `__`. */
export function settingOf(name: string, env: Environment): string | undefined {
  const wanted = new Set([name.toLowerCase(), name.replaceAll(":", "__").toLowerCase()]);
  return env[name] ?? env[Object.keys(env).find((it) => wanted.has(it.toLowerCase())) ?? name];
}

/**
 * Replaces `%NAME%` anywhere in any string of a binding.
 *
 * @throws StartError that names a setting which is missing.
 */
export function resolvePlaceholders(value: unknown, env: Environment): unknown {
  if (typeof value === "string") return resolveText(value, env);
  if (Array.isArray(value)) return value.map((item) => resolvePlaceholders(item, env));
  if (!isObject(value)) return value;
  const entries = Object.entries(value);
  return Object.fromEntries(entries.map(([key, item]) => [key, resolvePlaceholders(item, env)]));
}

const resolveText = (text: string, env: Environment): string =>
  text.replace(/%([^%]+)%/g, (placeholder, name: string) => {
    const found = settingOf(name, env);
    if (found !== undefined) return found;
    throw new StartError(`${placeholder} does not resolve: the setting "${name}" is missing.`);
  });

/** `AzureWebJobs.<Name>.Disabled` or `AzureWebJobs_<Name>_Disabled`, true or 1. */
export function isDisabled(functionName: string, env: Environment): boolean {
  const names = [`AzureWebJobs.${functionName}.Disabled`, `AzureWebJobs_${functionName}_Disabled`];
  return names.some((name) => /^(1|true)$/i.test(settingOf(name, env) ?? ""));
}

/**
 * The connection string that a binding names.
 *
 * @throws StartError when no setting holds it; identity-based connections are not supported here.
 */
export function connectionString(name: string, env: Environment): string {
  const candidates = [`AzureWebJobs${name}`, name, `ConnectionStrings:${name}`];
  const found = candidates.map((candidate) => settingOf(candidate, env)).find(Boolean);
  if (found !== undefined) return found;
  const identity = ["accountName", "queueServiceUri"].map((part) => `${name}__${part}`);
  const hint = identity.some((it) => settingOf(it, env) !== undefined)
    ? " Identity-based connections work in Azure only."
    : "";
  throw new StartError(
    `The connection "${name}" is not set: give ${candidates[1]} a connection string.${hint}`,
  );
}
