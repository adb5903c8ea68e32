import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll } from "vitest";
import { type RunningChild, startNodeChild } from "../../../local/backends/child-process.ts";
import type { LogEntry } from "../../../local/functions-host/host-log.ts";

const WORKER = new URL("../../../local/functions-host/worker.ts", import.meta.url);
const HOST = new URL("../../../local/functions-host/host.ts", import.meta.url).href;
const NODE_MODULES = fileURLToPath(new URL("../../../node_modules", import.meta.url));

export const fixture = (name: string): string =>
  fileURLToPath(new URL(`./fixtures/${name}`, import.meta.url));

const cleanUps: (() => unknown)[] = [];
afterAll(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

export const afterTests = (cleanUp: () => unknown): void => void cleanUps.push(cleanUp);

export function tempDir(): string {
  const dir = mkdtempSync(join(tmpdir(), "functions-host-"));
  afterTests(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A folder with an app: objects become JSON files. It finds the packages of the repository. */
export function createApp(files: Readonly<Record<string, string | object>>): string {
  const dir = tempDir();
  symlinkSync(NODE_MODULES, join(dir, "node_modules"), "dir");
  const all = { "host.json": { version: "2.0" }, ...files };
  for (const [name, content] of Object.entries(all)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), typeof content === "string" ? content : JSON.stringify(content));
  }
  return dir;
}

export interface TestWorker extends RunningChild {
  readonly url: string;
  /** Everything it printed, also what came before it was ready. */
  printed(): string;
}

export async function startWorker(
  dir: string,
  args: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<TestWorker> {
  let printed = "";
  const child = await startNodeChild("worker", WORKER, ["--dir", dir, "--port", "0", ...args], {
    env: { ...process.env, ...env },
    onOutput: (text) => {
      printed += text;
    },
  });
  afterTests(() => child.stop());
  return { ...child, url: child.value, printed: () => printed };
}

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

type Env = Readonly<Record<string, string>>;

/** Runs the worker until it ends by itself. */
export const runWorker = (args: readonly string[], env: Env = {}): Promise<Ended> =>
  runNode([fileURLToPath(WORKER), ...args], env);

/** Starts a host in a process that has no other reason to live, and stops it. */
export function startAndStop(dir: string, env: Env = {}): Promise<Ended> {
  const options = JSON.stringify({ dir, port: 0, stateFile: `${tempDir()}/timers.json` });
  const script = `
    import { startHost } from ${JSON.stringify(HOST)};
    const host = await startHost({ ...${options}, logger: () => {} });
    await host.stop();`;
  return runNode(["--input-type=module", "-e", script], env);
}

async function runNode(args: readonly string[], env: Env): Promise<Ended> {
  const child = spawn(process.execPath, args, { env: { ...process.env, ...env } });
  afterTests(() => child.kill("SIGKILL"));
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text) => {
    stderr += text;
  });
  const [code] = await once(child, "close");
  return { code, stdout, stderr };
}

const UNTIL_MAX_MS = 15_000;
const POLL_MS = 20;

/** Polls until `read` gives something. */
export async function until<T>(
  what: string,
  read: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  const startedAt = performance.now();
  for (;;) {
    const value = await read();
    if (value !== undefined && value !== false) return value;
    if (performance.now() - startedAt > UNTIL_MAX_MS) throw new Error(`${what}: not in time`);
    await sleep(POLL_MS);
  }
}

/** A logger that keeps what it gets. */
export function keptLog(): { readonly entries: LogEntry[]; logger(entry: LogEntry): void } {
  const entries: LogEntry[] = [];
  return { entries, logger: (entry) => void entries.push(entry) };
}
