import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { STORAGE_QUEUES } from "../src/queues.ts";
import { isOnPath } from "./backends/redis.ts";
import { type Backends, startBackends } from "./backends/stack.ts";
import { StartError } from "./backends/start-error.ts";
import { buildPackage } from "./build-package.ts";
import { parseChoice, parsePort, runCommand, stopped } from "./command.ts";
import { DEVELOPMENT_KEY, workerEnvironment } from "./worker-environment.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const DATA_DIR = fileURLToPath(new URL("../.local", import.meta.url));
const DEFAULT_PORT = 7071;
const STOP_WITHIN_MS = 10_000;

const FUNC_MISSING = `The command func is not on the PATH. Install Azure Functions Core Tools 4:
  npm install -g azure-functions-core-tools@4
  or see https://learn.microsoft.com/azure/azure-functions/functions-run-local
Without it, \`npm start\` runs the same app in the embedded host.`;

await runCommand({
  help: `
npm run start:func -- [options]

Builds the package and runs it in the real Functions host: \`func start\` of Azure Functions Core Tools 4, with the
embedded backends. The settings are handed over in the environment; no file is written.

  --port N          default ${DEFAULT_PORT}
  --database KIND   pglite (default, has pgvector) or postgres
  --dir DIR         where the data is kept; default .local
`,
  options: {
    port: { type: "string" },
    database: { type: "string", default: "pglite" },
    dir: { type: "string", default: DATA_DIR },
  },
  run: async ({ port, database, dir }, stop) => {
    const chosen = parsePort(port, "--port") ?? DEFAULT_PORT;
    if (!isOnPath("func")) throw new StartError(FUNC_MISSING);
    const built = await buildPackage(ROOT);
    const log = (line: string): void => console.log(`  ${line}`);
    const backends = await startBackends({
      dir,
      database: parseChoice(database, ["pglite", "postgres"], "--database"),
      queues: STORAGE_QUEUES,
      log,
      abort: stop,
    });
    try {
      await runFunc(built.dir, chosen, backends, stop);
    } finally {
      await backends.stop();
    }
  },
});

async function runFunc(
  dir: string,
  port: number,
  backends: Backends,
  stop: AbortSignal,
): Promise<void> {
  console.log(`Development key, as header x-api-key: ${DEVELOPMENT_KEY}`);
  // In our group, unlike the backends: it reads the keyboard, and ends at Ctrl+C by itself.
  const func = spawn("func", ["start", "--port", String(port)], {
    cwd: dir,
    stdio: "inherit",
    shell: process.platform === "win32",
    env: { ...workerEnvironment(backends), FUNCTIONS_WORKER_RUNTIME: "node" },
  });
  const ended = once(func, "exit").then(([code]) => `func ended with exit code ${String(code)}.`);
  const failed = await Promise.race([stopped(stop), backends.failed, ended]);
  await endFunc(func);
  if (failed !== undefined) throw new StartError(failed);
}

async function endFunc(func: ChildProcess): Promise<void> {
  if (func.exitCode !== null || func.signalCode !== null) return;
  func.kill("SIGTERM");
  const insist = setTimeout(() => func.kill("SIGKILL"), STOP_WITHIN_MS);
  await once(func, "exit");
  clearTimeout(insist);
}
