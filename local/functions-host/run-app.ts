import { setTimeout as sleep } from "node:timers/promises";
import type { Cors } from "./cors.ts";
import { createExecutor, type Executor } from "./executor.ts";
import type { FunctionKeys } from "./function-keys.ts";
import type { HostJson } from "./host-json.ts";
import type { HostLog } from "./host-log.ts";
import { type HostedFunction, isTriggeredBy } from "./hosted-function.ts";
import { BODY_BYTES_MAX } from "./http-messages.ts";
import type { HttpDeps, HttpListener } from "./http-server.ts";
import { createInFlight, type InFlight } from "./in-flight.ts";
import type { QueueHost } from "./queue-host.ts";
import { buildRoutes } from "./routes.ts";
import { queueInput, timerInput } from "./rpc-data.ts";
import { handInput } from "./run-by-hand.ts";
import type { App } from "./start-app.ts";
import { createTimerListener, type TimerListener } from "./timer-listener.ts";
import { timerStatusFile } from "./timer-status.ts";

/** Everything a host is made of, with every default settled. */
export interface HostParts {
  readonly app: App;
  readonly listener: HttpListener;
  readonly log: HostLog;
  readonly hostJson: HostJson;
  readonly url: string;
  readonly hostId: string;
  /** Undefined = keys are not asked for. */
  readonly keys: FunctionKeys | undefined;
  readonly cors: Cors;
  readonly hasQueues: boolean;
  readonly maxPollingMs: number;
  readonly leaseSeconds: number;
  readonly hasTimers: boolean;
  readonly stateFile: string;
  readonly now: () => Date;
  readonly stopWithinMs: number;
}

export interface HostControl {
  runFunction(name: string, input?: unknown): Promise<void>;
  stop(): Promise<void>;
}

/** Connects the triggers to the functions, and starts them. */
export async function runApp(parts: HostParts): Promise<HostControl> {
  const { app, listener, log } = parts;
  const inFlight = createInFlight();
  const stopping = new AbortController();
  const executor = createExecutor({
    core: app.core,
    log,
    inFlight,
    stopping: stopping.signal,
    timeoutMs: parts.hostJson.functionTimeoutMs,
    writeOutputs: async (fn, response) => queues?.writeOutputs(fn, response),
  });
  const queues = await openQueues(parts, executor, inFlight);
  const timers = createTimers(parts, executor, inFlight);
  const runByHand = createRunByHand(parts, executor, timers);
  const runLater = (fn: HostedFunction, input: unknown) => void runByHand(fn, input).catch(ignore);
  const http = httpDeps(parts, executor, runLater);
  for (const timer of timers) timer.start(); // the first one fails when the file with the status is broken
  listener.serve(http);
  queues?.start();

  let stopped: Promise<void> | undefined;
  return {
    runFunction: async (name, input) => runByHand(findFunction(app.functions, name), input),
    stop: () => {
      stopped ??= stopApp(parts, { timers, queues, stopping, inFlight });
      return stopped;
    },
  };
}

interface RunningParts {
  readonly timers: readonly TimerListener[];
  readonly queues: QueueHost | undefined;
  readonly stopping: AbortController;
  readonly inFlight: InFlight;
}

/** Begins nothing more, lets what runs end, and then lets the app clean up. */
async function stopApp(parts: HostParts, running: RunningParts): Promise<void> {
  const { listener, log, stopWithinMs } = parts;
  const { timers, queues, stopping, inFlight } = running;
  for (const timer of timers) timer.stop();
  stopping.abort();
  if (queues !== undefined) inFlight.track(queues.stop());
  await Promise.all([listener.close(stopWithinMs), inFlight.drain(stopWithinMs)]);
  if (inFlight.size() > 0) log("warning", `${inFlight.size()} run(s) did not end in time.`);
  await terminate(parts);
}

type RunByHand = (fn: HostedFunction, input: unknown) => Promise<void>;

function createRunByHand(
  { app, url, log }: HostParts,
  executor: Executor,
  timers: readonly TimerListener[],
): RunByHand {
  return async (fn, input) => {
    if (app.capabilities.HttpUri !== undefined && fn.trigger.kind === "http") {
      const message = `"${fn.name}" streams: it can only be run by an HTTP request.`;
      log("error", message, { functionName: fn.name });
      throw new Error(message);
    }
    const timerInfo = timers.find((it) => it.functionName === fn.name)?.info();
    await executor.execute(fn, handInput(fn, input, { url, timerInfo }));
  };
}

/** Logged by the executor already. */
const ignore = () => {};

function findFunction(functions: readonly HostedFunction[], name: string): HostedFunction {
  const found = functions.find((fn) => fn.name.toLowerCase() === name.toLowerCase());
  if (found !== undefined) return found;
  throw new Error(`There is no function "${name}".`);
}

/** The storage library is loaded only when a function needs it. */
async function openQueues(
  parts: HostParts,
  executor: Executor,
  inFlight: InFlight,
): Promise<QueueHost | undefined> {
  const enabled = parts.app.functions.filter((fn) => !fn.isDisabled);
  const listening = parts.hasQueues ? enabled.filter(isTriggeredBy("queue")) : [];
  const writing = enabled.filter((fn) => fn.queueOutputs.length > 0);
  if (listening.length === 0 && writing.length === 0) return undefined;
  const { createQueueHost } = await import("./queue-host.ts");
  return createQueueHost({
    listening,
    writing,
    settings: parts.hostJson.queues,
    maxPollingMs: parts.maxPollingMs,
    leaseSeconds: parts.leaseSeconds,
    invoke: (fn, message) => executor.execute(fn, queueInput(message)),
    track: inFlight.track,
    env: process.env,
    log: parts.log,
  });
}

function createTimers(parts: HostParts, executor: Executor, inFlight: InFlight): TimerListener[] {
  const { app, log, now } = parts;
  const functions = app.functions.filter((fn) => !fn.isDisabled).filter(isTriggeredBy("timer"));
  if (!parts.hasTimers) return [];
  const store = timerStatusFile(parts.stateFile);
  return functions.map((fn) =>
    createTimerListener(fn, {
      invoke: (it, info) => executor.execute(it, timerInput(info)),
      track: (work) => void inFlight.track(work),
      store,
      now,
      wait: (ms, callback) => {
        const timer = setTimeout(callback, ms);
        return () => clearTimeout(timer);
      },
      log,
    }),
  );
}

function httpDeps(
  parts: HostParts,
  executor: Executor,
  run: (fn: HostedFunction, input: unknown) => void,
): HttpDeps {
  const { app, hostJson, hostId, keys, cors, log } = parts;
  const { functions, capabilities } = app;
  const limit = Number(process.env["FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"]);
  return {
    routes: buildRoutes(functions.filter(isTriggeredBy("http")), hostJson.routePrefix),
    executor,
    admin: { hostId, functions, run },
    cors,
    keys,
    customHeaders: hostJson.customHeaders,
    maxBodyBytes: limit > 0 ? limit : BODY_BYTES_MAX,
    hasHomepage: !/^true$/i.test(process.env["AzureWebJobsDisableHomepage"] ?? ""),
    streamUrl: capabilities.HttpUri,
    log,
  };
}

/** What a hook throws is logged: the others still run to their end. */
async function terminate({ app, log, stopWithinMs }: HostParts): Promise<void> {
  const bound = new AbortController();
  const late = sleep(stopWithinMs, "late", { signal: bound.signal }).catch(ignore);
  const hooks = app.terminate().catch((error: unknown) => {
    log("error", `An appTerminate hook failed: ${error instanceof Error ? error.stack : error}`);
  });
  const first = await Promise.race([hooks, late]);
  bound.abort();
  if (first === "late") log("warning", "The appTerminate hooks did not end in time.");
  app.closeLibrary();
}
