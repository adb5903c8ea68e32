import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { StartError } from "../backends/start-error.ts";

export interface AppLocation {
  /** The folder with `package.json` and `host.json`. */
  readonly dir: string;
  /** One source file to load instead of `main`, relative to `dir`. */
  readonly entry?: string | undefined;
}

/**
 * Loads the app as the Node worker does: every match of `main` in `package.json`. Where the worker would go on without
 * functions and only say so on stderr, this fails.
 *
 * @throws StartError when there is nothing to load, or a file throws.
 */
export async function loadApp(location: AppLocation): Promise<void> {
  const files = location.entry === undefined ? await mainFiles(location.dir) : [location.entry];
  for (const file of files) await loadFile(location.dir, file);
}

async function mainFiles(dir: string): Promise<string[]> {
  const main = readMain(dir);
  const { default: glob } = await import("fast-glob"); // not needed when an entry is named
  const files = await glob(main.replace(/^\.\//, ""), { cwd: dir });
  if (files.length > 0) return files.sort();
  throw new StartError(
    `No file matches "main" of package.json ("${main}") in ${dir}. Build the app, or name an entry file.`,
  );
}

function readMain(dir: string): string {
  const file = join(dir, "package.json");
  const { main } = readPackage(file);
  if (typeof main === "string" && main !== "") return main;
  throw new StartError(`${file} has no "main": Azure would start no function and say nothing.`);
}

function readPackage(file: string): { main?: unknown } {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as { main?: unknown };
  } catch (error) {
    throw new StartError(`${file} cannot be read: ${String(error)}`);
  }
}

async function loadFile(dir: string, file: string): Promise<void> {
  try {
    await import(pathToFileURL(resolve(dir, file)).href);
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    throw new StartError(`The app cannot be loaded: ${file} throws\n${text}`);
  }
}
