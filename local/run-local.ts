import { rmSync, watch } from "node:fs";
import { join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { STORAGE_QUEUES } from "../src/queues.ts";
import { startNodeChild } from "./backends/child-process.ts";
import { lockFolder } from "./backends/folder-lock.ts";
import { preferPort, refuseTakenPort } from "./backends/ports.ts";
import { type Backends, DATA_FOLDERS, type DatabaseKind, startBackends } from "./backends/stack.ts";
import { StartError } from "./backends/start-error.ts";
import { stopped } from "./command.ts";
import { DEVELOPMENT_KEY, workerEnvironment } from "./worker-environment.ts";
import { startWorker, type Worker } from "./worker-process.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const SRC = join(ROOT, "src");
const DEFAULT_PORT = 7071;
const TIMERS_FILE = "timers.json";
/** Editors write a file in several steps, and a checkout changes many. */
const DEBOUNCE_MS = 150;
const READY_WITHIN_MS = 15_000;
const READY_POLL_MS = 200;
/** In the lines of the probes with which we ourselves wait for the service. */
const OWN_PROBE = 'route="GET /readyz"';

export interface LocalOptions {
  /** Undefined: 7071, or a free one when that is taken. */
  readonly port: number | undefined;
  readonly database: DatabaseKind;
  /** Where the data is kept. */
  readonly dir: string;
  /** Deletes the data first. */
  readonly reset: boolean;
  /** Lets a simulated product record usage when there is none yet. */
  readonly sample: boolean;
  /** Prints every line of the Functions host. */
  readonly verbose: boolean;
  /** Starts the worker again when a source changes. */
  readonly watch: boolean;
}

/** Backends, Functions host and sample work, until `stop` aborts; then nothing is left running. */
export async function runLocal(options: LocalOptions, stop: AbortSignal): Promise<void> {
  const startedAt = performance.now();
  const log = (line: string): void => console.log(`  ${line}`);
  if (options.port !== undefined)
    await refuseTakenPort(options.port, "the Functions host", "--port");
  if (options.reset) await deleteData(options.dir, log);
  console.log(
    `Starting worker-service with embedded backends; data in ${relative(process.cwd(), options.dir) || "."}/`,
  );
  const backends = await startBackends({ ...options, queues: STORAGE_QUEUES, log, abort: stop });
  try {
    const output = heldOutput(options.verbose);
    const worker = await startWorkerOn(backends, options, output.write, stop, log);
    await untilReady(worker.url, stop, log);
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    console.log(firstScreen(worker.url, seconds, options));
    output.release();
    await serve(backends, worker, options, stop, log);
  } finally {
    await backends.stop();
  }
  console.log("Everything is stopped.");
}

/** Only what we put there ourselves: `--dir` may point anywhere. */
async function deleteData(dir: string, log: (line: string) => void): Promise<void> {
  const lock = await lockFolder(dir, "stack");
  for (const name of [...DATA_FOLDERS, TIMERS_FILE]) {
    rmSync(join(dir, name), { recursive: true, force: true });
  }
  lock.release();
  log("The data of earlier starts is deleted.");
}

async function startWorkerOn(
  backends: Backends,
  options: LocalOptions,
  onOutput: (text: string) => void,
  abort: AbortSignal,
  log: (line: string) => void,
): Promise<Worker> {
  const port = options.port ?? (await preferPort(DEFAULT_PORT, "the Functions host", log));
  return startWorker({
    env: workerEnvironment(backends),
    port,
    stateFile: join(options.dir, TIMERS_FILE),
    onOutput,
    log: (line) => console.log(`[local] ${line}`),
    whenBroken: options.watch ? "wait" : "retry",
    abort,
  });
}

/** The first probes connect everything; whoever opens the address after that gets an answer at once. */
async function untilReady(
  url: string,
  stop: AbortSignal,
  log: (line: string) => void,
): Promise<void> {
  const deadline = performance.now() + READY_WITHIN_MS;
  while (!stop.aborted && !(await isReady(url))) {
    if (performance.now() >= deadline) {
      log(`Not ready after ${READY_WITHIN_MS / 1000} s; ${url}/health says why.`);
      return;
    }
    await sleep(READY_POLL_MS);
  }
  stop.throwIfAborted();
}

async function isReady(url: string): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(READY_WITHIN_MS);
    return (await fetch(`${url}/readyz`, { signal })).ok;
  } catch {
    return false;
  }
}

function firstScreen(url: string, seconds: string, options: LocalOptions): string {
  const command = options.watch ? "npm run dev" : "npm start";
  const look = (path: string, what: string): string =>
    `  ${`${url}${path}`.padEnd(url.length + 18)}${what}`;
  return `
worker-service runs at ${url}  (ready in ${seconds} s)

${look("/health", "is it healthy, and what is not")}
${look("/readyz", "does it take work")}
${look("/docs", "every route and the role it needs")}
${look("/usage/{tenant}", "what a tenant used, booked and pending")}

  Development key, as header x-api-key: ${DEVELOPMENT_KEY}
    curl -H "x-api-key: ${DEVELOPMENT_KEY}" ${url}/usage-runs

  Ctrl+C stops everything and keeps the data; \`${command} -- --reset\` starts from nothing.
`;
}

async function serve(
  backends: Backends,
  worker: Worker,
  options: LocalOptions,
  stop: AbortSignal,
  log: (line: string) => void,
): Promise<void> {
  const unwatch = options.watch ? restartOnChange(worker, log) : () => {};
  const sample = options.sample ? startSample(backends, worker.url, stop) : Promise.resolve();
  const failed = await Promise.race([stopped(stop), backends.failed, worker.failed]);
  unwatch();
  console.log("\nStopping …");
  await Promise.all([worker.stop(), sample]);
  if (failed !== undefined) throw new StartError(failed);
}

/** What the worker prints, without noise, after the first screen: until then only its end is of interest. */
function heldOutput(verbose: boolean): { write(text: string): void; release(): void } {
  let held: string[] | undefined = [];
  const print = (line: string): void => {
    if (held === undefined) console.log(line);
    else if (!line.includes(OWN_PROBE)) held.push(line);
  };
  return {
    write: byLine((line) => {
      if (verbose || !isNoise(line)) print(line);
    }),
    release: () => {
      for (const line of held ?? []) console.log(line);
      held = undefined;
    },
  };
}

/** Every run writes a line of its own; the two of the host around it say more only when it failed. */
const isNoise = (line: string): boolean =>
  /^READY |: Executing 'Functions\.|: Executed 'Functions\.\S+' \(Succeeded/.test(line);

/** Output comes in pieces that need not end where a line does. */
function byLine(write: (line: string) => void): (text: string) => void {
  let rest = "";
  return (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    lines.forEach(write);
  };
}

function restartOnChange(worker: Worker, log: (line: string) => void): () => void {
  let timer: NodeJS.Timeout | undefined;
  const watcher = watch(SRC, { recursive: true }, (_event, file) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      console.log(`[local] ${file ?? "src/"} changed; starting the worker again.`);
      void worker.restart();
    }, DEBOUNCE_MS);
  });
  log("Watching src/ …");
  return () => {
    clearTimeout(timer);
    watcher.close();
  };
}

/** In a process of its own, which ends when the sample is done. A sample that fails is no reason to stop the service. */
async function startSample(backends: Backends, url: string, stop: AbortSignal): Promise<void> {
  const { UPSTASH_REDIS_REST_URL, UPSTASH_REDIS_REST_TOKEN, AzureWebJobsStorage } =
    backends.settings;
  try {
    const child = await startNodeChild(
      "The sample work",
      new URL("./sample/sample.child.ts", import.meta.url),
      [],
      {
        env: {
          ...process.env,
          UPSTASH_REDIS_REST_URL,
          UPSTASH_REDIS_REST_TOKEN,
          AzureWebJobsStorage,
          WORKER_URL: url,
          WORKER_KEY: DEVELOPMENT_KEY,
        },
        onOutput: byLine((line) => {
          if (!line.startsWith("READY ")) console.log(line);
        }),
        abort: stop,
      },
    );
    stop.addEventListener("abort", () => void child.stop(), { once: true });
    await child.ended;
  } catch (error) {
    if (!stop.aborted) console.log(`[sample] ${String(error)}`);
  }
}
