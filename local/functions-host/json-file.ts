import { readFileSync } from "node:fs";
import { StartError } from "../backends/start-error.ts";

export type JsonObject = Record<string, unknown>;

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * The object in a JSON file; undefined when there is no such file.
 *
 * @throws StartError when it holds something else.
 */
export function readJsonFile(file: string): JsonObject | undefined {
  const text = readText(file);
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text.replace(/^\uFEFF/, ""));
    if (isObject(value)) return value;
  } catch (error) {
    throw new StartError(`${file} is not JSON: ${String(error)}`);
  }
  throw new StartError(`${file} must hold one JSON object.`);
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new StartError(`${file} cannot be read: ${String(error)}`);
  }
}

/** .NET configuration ignores the case of keys. */
export const keyOf = (object: JsonObject, key: string): string =>
  Object.keys(object).find((it) => it.toLowerCase() === key.toLowerCase()) ?? key;

export const valueAt = (root: JsonObject, path: readonly string[]): unknown =>
  path.reduce<unknown>((node, key) => (isObject(node) ? node[keyOf(node, key)] : undefined), root);
