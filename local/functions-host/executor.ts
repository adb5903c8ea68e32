import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Core } from "./core-module.ts";
import type {
  InvocationRequest,
  InvocationResponse,
  RetryContext,
  RetryOptions,
  RpcDuration,
} from "./core-types.ts";
import type { HostLog } from "./host-log.ts";
import type { HostedFunction } from "./hosted-function.ts";
import type { InFlight } from "./in-flight.ts";
import { invokeFunction } from "./invoke-function.ts";
import { invocationRequest, type RunInput } from "./rpc-data.ts";

/** The longest delay a Node timer can hold. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Runs functions as the host does: retry policy, timeout, outputs, one line before and one after each attempt. */
export interface Executor {
  /** @throws what the last attempt threw, as an Error. */
  execute(fn: HostedFunction, input: RunInput): Promise<InvocationResponse>;
}

export interface ExecutorOptions {
  readonly core: Core;
  readonly log: HostLog;
  readonly inFlight: InFlight;
  /** Aborts when the host stops: a retry is not waited for then. */
  readonly stopping: AbortSignal;
  readonly timeoutMs: number | undefined;
  readonly writeOutputs: (fn: HostedFunction, response: InvocationResponse) => Promise<void>;
}

export const createExecutor = (options: ExecutorOptions): Executor => ({
  execute: (fn, input) => options.inFlight.track(executeWithRetry(options, fn, input)),
});

/** Of the triggers here only the timer has a retry policy: queues retry by visibility, HTTP not at all. */
async function executeWithRetry(
  options: ExecutorOptions,
  fn: HostedFunction,
  input: RunInput,
): Promise<InvocationResponse> {
  const { stopping } = options;
  const retry = fn.trigger.kind === "timer" ? fn.retry : undefined;
  const first = invocationRequest(fn, input);
  let retryContext: RetryContext | undefined;
  for (let attempt = 0; ; attempt++) {
    try {
      const request = retryContext === undefined ? first : nextAttempt(first, retryContext);
      return await runAttempt(options, fn, request);
    } catch (thrown) {
      const error = thrown instanceof Error ? thrown : new Error(String(thrown));
      if (retry === undefined || isLastAttempt(retry, attempt) || stopping.aborted) throw error;
      await sleep(retryDelayMs(retry, attempt), undefined, { signal: stopping }).catch(() => {});
      if (stopping.aborted) throw error;
      retryContext = toRetryContext(retry, attempt + 1, error);
    }
  }
}

const isLastAttempt = ({ maxRetryCount }: RetryOptions, attempt: number): boolean =>
  maxRetryCount >= 0 && attempt >= maxRetryCount;

const nextAttempt = (first: InvocationRequest, retryContext: RetryContext): InvocationRequest => ({
  ...first,
  invocationId: randomUUID(),
  retryContext,
});

const toRetryContext = (retry: RetryOptions, retryCount: number, error: Error): RetryContext => ({
  retryCount,
  maxRetryCount: retry.maxRetryCount,
  exception: { message: error.message, stackTrace: error.stack ?? "", source: "" },
});

export function retryDelayMs(retry: RetryOptions, attempt: number): number {
  if (retry.retryStrategy === "fixedDelay") return durationMs(retry.delayInterval);
  const delayMs = durationMs(retry.minimumInterval) * 2 ** attempt;
  return Math.min(delayMs, durationMs(retry.maximumInterval), TIMER_MAX_MS);
}

const durationMs = (duration: RpcDuration | null | undefined): number =>
  Number(duration?.seconds ?? 0) * 1000 + Number(duration?.nanos ?? 0) / 1e6;

async function runAttempt(
  { core, log, timeoutMs, writeOutputs }: ExecutorOptions,
  fn: HostedFunction,
  request: InvocationRequest,
): Promise<InvocationResponse> {
  const { invocationId } = request;
  const source = { functionName: fn.name, invocationId };
  const startedAt = performance.now();
  const ended = (how: string) =>
    `Executed 'Functions.${fn.name}' (${how}, Id=${invocationId}, Duration=${Math.round(performance.now() - startedAt)}ms)`;
  log("information", `Executing 'Functions.${fn.name}' (Id=${invocationId})`, source);
  try {
    const response = await withTimeout(invokeFunction(core, fn, request), timeoutMs, fn.name);
    await writeOutputs(fn, response);
    log("information", ended("Succeeded"), source);
    return response;
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    log("error", `${ended("Failed")} ${text}`, source);
    throw error;
  }
}

/** In Azure the worker is restarted on a timeout. Here only the wait ends: the handler goes on. */
async function withTimeout<T>(
  work: Promise<T>,
  timeoutMs: number | undefined,
  name: string,
): Promise<T> {
  if (timeoutMs === undefined) return work;
  const done = new AbortController();
  const waitMs = Math.min(timeoutMs, TIMER_MAX_MS);
  const late = sleep(waitMs, undefined, { signal: done.signal }).then(() => {
    throw new Error(`Timeout value of ${timeoutMs} ms was exceeded by function: Functions.${name}`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([work, late]);
  } finally {
    done.abort();
    work.catch(() => {});
  }
}
