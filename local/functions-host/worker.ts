import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import { StartError } from "../backends/start-error.ts";
import { captureOutput } from "./capture-output.ts";
import { consoleLogger } from "./console-log.ts";
import type { FunctionKeys } from "./function-keys.ts";
import { type HostOptions, type RunningHost, startHost } from "./host.ts";
import { createHostLog } from "./host-log.ts";
import { isObject } from "./json-file.ts";

process.env["TZ"] = "UTC";

const HELP = `
node local/functions-host/worker.ts --dir DIR [options]

Runs a Functions app with the embedded host. Prints \`READY <url>\` as the first line on stdout when it is up; what it
logs before that goes to stderr. Ends when its stdin ends, or at SIGINT and SIGTERM.

  --dir DIR            folder of the app, with package.json and host.json (default: the current folder)
  --entry FILE         source file to load instead of "main" of package.json
  --port N             0 = any free port (default: LocalHttpPort of local.settings.json, else 7071)
  --cors ORIGIN        allowed origin, may be repeated
  --max-poll-ms N      longest pause between two polls of a queue
  --lease-seconds N    how long a message in work stays invisible (default 600)
  --state FILE         where timers remember when they ran (default: .local/timer-status.json)
  --no-queues          polls no queue
  --no-timers          runs no timer by itself
  --enable-auth        asks for function keys: those in LOCAL_FUNCTION_KEYS, a JSON object with master, host and
                       functions, else a new master key, which is printed
  --json               logs one JSON object per line
  --verbose            logs debug and trace too
`;

const OPTIONS = {
  dir: { type: "string", default: "." },
  entry: { type: "string" },
  port: { type: "string" },
  cors: { type: "string", multiple: true },
  "max-poll-ms": { type: "string" },
  "lease-seconds": { type: "string" },
  state: { type: "string" },
  "no-queues": { type: "boolean", default: false },
  "no-timers": { type: "boolean", default: false },
  "enable-auth": { type: "boolean", default: false },
  json: { type: "boolean", default: false },
  verbose: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
} as const;

const USAGE_ERROR = 2;
const INTERRUPTED = 130;
/** Together below the 5 s that a parent waits before it kills. */
const STOP_WITHIN_MS = 2000;
const EXIT_WITHIN_MS = 4500;

const values = parseOptions();
if (values.help) console.log(HELP.trim());
else await run();

function parseOptions() {
  try {
    return parseArgs({ options: OPTIONS }).values;
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n${HELP}`);
    process.exit(USAGE_ERROR);
  }
}

async function run(): Promise<void> {
  let isReady = false;
  const raw = captureOutput(() => log);
  const logger = consoleLogger({
    isJson: values.json,
    isVerbose: values.verbose,
    write: (line) => (isReady ? raw.stdout(line) : raw.stderr(line)),
  });
  const log = createHostLog(logger);
  let host: RunningHost | undefined;
  endWith(() => host);
  try {
    const options = hostOptions();
    host = await startHost({ ...options, logger });
    raw.stdout(`READY ${host.url}\n`);
    isReady = true;
    for (const line of summary(host, options)) log("information", line);
  } catch (error) {
    raw.stderr(`${error instanceof StartError ? error.message : describe(error)}\n`);
    process.exit(1);
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

function hostOptions(): HostOptions {
  return {
    dir: values.dir,
    entry: values.entry,
    port: number("port", 0, 65_535),
    cors: values.cors,
    maxPollingMs: number("max-poll-ms", 1, 600_000),
    leaseSeconds: number("lease-seconds", 1, 604_800),
    stateFile: values.state,
    queues: !values["no-queues"],
    timers: !values["no-timers"],
    enableAuth: values["enable-auth"],
    keys: values["enable-auth"] ? functionKeys() : undefined,
    stopWithinMs: STOP_WITHIN_MS,
  };
}

function number(
  name: "port" | "max-poll-ms" | "lease-seconds",
  min: number,
  max: number,
): number | undefined {
  const text = values[name];
  if (text === undefined) return undefined;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw new StartError(`--${name} must be a whole number from ${min} to ${max}; it is "${text}".`);
}

function functionKeys(): FunctionKeys {
  const text = process.env["LOCAL_FUNCTION_KEYS"];
  if (!text) return { master: randomBytes(24).toString("base64url") };
  try {
    const keys: unknown = JSON.parse(text);
    if (isObject(keys)) return keys;
  } catch {
    // answered below
  }
  throw new StartError(
    "LOCAL_FUNCTION_KEYS must be a JSON object with master, host and functions.",
  );
}

function summary(host: RunningHost, { keys }: HostOptions): string[] {
  const functions = host.functions.map(({ name, triggerType, isDisabled, bindings }) => {
    const trigger = bindings.find(({ direction }) => direction === "in");
    const about = trigger?.["route"] ?? trigger?.["schedule"] ?? trigger?.["queueName"] ?? name;
    return `${name}: ${triggerType} ${String(about)}${isDisabled ? " (disabled)" : ""}`;
  });
  const isGenerated = keys !== undefined && !process.env["LOCAL_FUNCTION_KEYS"];
  return isGenerated ? [...functions, `master key: ${keys.master}`] : functions;
}

/** No parent, no worker: stdin ends with it, however it ends. */
function endWith(host: () => RunningHost | undefined): void {
  let isEnding = false;
  const end = () => {
    if (isEnding) return;
    isEnding = true;
    setTimeout(() => process.exit(1), EXIT_WITHIN_MS);
    const stopped = host()?.stop() ?? Promise.reject(new Error("not started yet"));
    stopped.then(
      () => process.exit(0),
      () => process.exit(1),
    );
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => (isEnding ? process.exit(INTERRUPTED) : end()));
  }
  if (process.stdin.isTTY) return; // started by hand
  process.stdin.once("end", end).once("error", end).resume();
}
