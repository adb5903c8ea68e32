import type { InvocationContext } from "@azure/functions";
import { type Failure, toFailure, transient } from "../kernel/errors.ts";
import type { ActiveRun, LogFields, Run } from "../kernel/run.ts";
import { withinRun } from "./current-run.ts";
import { createLogger } from "./logger.ts";

/** Below the shortest `functionTimeout` we allow (10 min), so that we end before the host ends us. */
const DEADLINE_MS = 540_000;
/** To store the fate of a run that used up its own time; together they stay below the host's. */
const SETTLE_DEADLINE_MS = 30_000;

export interface TriggerOptions<T> {
  /**
   * Stores the fate of what failed; returning acknowledges it. Its run has a signal of its own, because the body may
   * have failed by using up all the time. The default hands the error to the host.
   */
  readonly settle?: (failure: Failure, run: Run) => Promise<T>;
  /** When `run.signal` aborts. */
  readonly deadlineMs?: number;
  /** Whether a run that ended well, with these notes, is not worth its line. The default writes them all. */
  readonly isRoutine?: (notes: LogFields) => boolean;
}

/**
 * The only catch-all of the service: every handler of every trigger goes through it. Writes one line per invocation,
 * `run_done` (unless it is routine) or `run_failed`. An error that nobody settles reaches the host, which retries or poisons.
 */
export async function runTrigger<T>(
  context: InvocationContext,
  body: (run: ActiveRun) => Promise<T>,
  options: TriggerOptions<T> = {},
): Promise<T> {
  const run = startRun(context, options);
  try {
    const result = await withinRun(run, () => body(run));
    run.finish();
    return result;
  } catch (error) {
    const failure = toFailure(error);
    run.finish(failure);
    const { settle } = options;
    if (settle === undefined) throw failure.error;
    return await settleWithin(failure, run, settle);
  } finally {
    run.end();
  }
}

async function settleWithin<T>(
  failure: Failure,
  run: Run,
  settle: (failure: Failure, run: Run) => Promise<T>,
): Promise<T> {
  const { signal, end } = startDeadline(SETTLE_DEADLINE_MS);
  try {
    return await settle(failure, { ...run, signal });
  } finally {
    end();
  }
}

function startRun<T>(
  context: InvocationContext,
  { deadlineMs = DEADLINE_MS, isRoutine = () => false }: TriggerOptions<T>,
): ActiveRun & { end(): void } {
  const startedAt = performance.now();
  const notes: Record<string, unknown> = {};
  const { signal, end } = startDeadline(deadlineMs);
  const common = { function: context.functionName, runId: context.invocationId };
  const log = createLogger((level, line) => context[level](line), common);
  let isFinished = false;
  return {
    name: context.functionName,
    id: context.invocationId,
    log,
    signal,
    note: (fields) => void Object.assign(notes, fields),
    finish: (failure) => {
      if (isFinished) return;
      isFinished = true;
      const fields = { ...notes, durationMs: Math.round(performance.now() - startedAt) };
      if (failure === undefined) return isRoutine(notes) ? undefined : log.info("run_done", fields);
      log[levelOf(failure)]("run_failed", { ...fields, ...failureFields(failure) });
    },
    end,
  };
}

/** Aborts with the error that whoever waits then throws, until it is ended. */
function startDeadline(ms: number): { signal: AbortSignal; end(): void } {
  const controller = new AbortController();
  const abort = () => controller.abort(transient("deadline_exceeded", { ms }));
  const timer = setTimeout(abort, ms);
  return { signal: controller.signal, end: () => clearTimeout(timer) };
}

/** What a caller did wrong is not our failure: a 4xx never wakes anybody. */
const levelOf = (failure: Failure): "warn" | "error" => (failure.isCallers ? "warn" : "error");

/** The details keep a level of their own: peers call their codes `code` too. */
function failureFields(failure: Failure): LogFields {
  const { kind, code, details, error } = failure;
  const cause = error.cause instanceof Error ? { cause: error.cause } : {};
  const stack = kind === "bug" || code === "unclassified" ? { stack: error.stack } : {};
  return { kind, code, details, error, ...cause, ...stack };
}
