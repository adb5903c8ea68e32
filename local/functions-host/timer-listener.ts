import type { HostLog } from "./host-log.ts";
import type { HostedFunction, TriggerOf } from "./hosted-function.ts";
import type { TimerInfo } from "./rpc-data.ts";
import {
  afterRun,
  resumeTimer,
  statusText,
  type TimerStatus,
  type TimerStatusStore,
} from "./timer-status.ts";

export type TimerFunction = HostedFunction<TriggerOf<"timer">>;

export interface TimerDeps {
  readonly invoke: (fn: TimerFunction, info: TimerInfo) => Promise<unknown>;
  /** A stop waits for it, so that the status of the last run is stored. */
  readonly track: (work: Promise<void>) => void;
  readonly store: TimerStatusStore;
  readonly now: () => Date;
  /** Calls back after `ms`; returns how to call it off. */
  readonly wait: (ms: number, callback: () => void) => () => void;
  readonly log: HostLog;
}

export interface TimerListener {
  readonly functionName: string;
  start(): void;
  /** Plans no further run; the running one goes on. */
  stop(): void;
  /** What a run by hand gets. */
  info(): TimerInfo;
}

/**
 * A longer wait is cut into pieces and the clock is asked again: a computer that slept, or whose clock was set, is not
 * late for long.
 */
const WAIT_MAX_MS = 30_000;
const OCCURRENCES_SHOWN = 5;

type Reason = "schedule" | "past-due" | "startup";

/** The timer of one function. Its runs never overlap: the next one is planned when one ends. */
export function createTimerListener(fn: TimerFunction, deps: TimerDeps): TimerListener {
  const { schedule, runOnStartup } = fn.trigger;
  const isMonitored = fn.trigger.useMonitor && !schedule.isSubMinute;
  let status: TimerStatus = resumeTimer(schedule, undefined, deps.now()).status;
  let cancel = () => {};
  let isStopped = false;

  const info = (isPastDue = false): TimerInfo => ({
    Schedule: { AdjustForDST: true },
    ScheduleStatus: isMonitored ? statusText(status) : null,
    IsPastDue: isPastDue,
  });
  const store = (next: TimerStatus) => {
    status = next;
    if (!isMonitored) return;
    try {
      deps.store.write(fn.name, next);
    } catch (error) {
      const text = `The status of the timer cannot be stored: ${String(error)}`;
      deps.log("error", text, { functionName: fn.name });
    }
  };
  const begin = (reason: Reason) => deps.track(run(reason));
  const arm = () => {
    if (isStopped) return;
    const waitMs = status.next.getTime() - deps.now().getTime();
    if (waitMs > WAIT_MAX_MS) cancel = deps.wait(WAIT_MAX_MS, arm);
    else cancel = deps.wait(Math.max(1, waitMs), () => begin("schedule"));
  };
  const run = async (reason: Reason) => {
    const startedAt = deps.now();
    // the executor logs a failure, and no failure disturbs the schedule
    await deps.invoke(fn, info(reason === "past-due")).catch(() => {});
    store(afterRun(schedule, status, startedAt, reason === "schedule"));
    arm();
  };
  return {
    functionName: fn.name,
    info,
    start: () => {
      const stored = isMonitored ? deps.store.read(fn.name) : undefined;
      const resumed = resumeTimer(schedule, stored, deps.now());
      store(resumed.status);
      deps.log("information", upcoming(fn, deps.now()), { functionName: fn.name });
      if (resumed.isPastDue) begin("past-due");
      else if (runOnStartup) begin("startup");
      else arm();
    },
    stop: () => {
      isStopped = true;
      cancel();
    },
  };
}

function upcoming({ trigger: { schedule } }: TimerFunction, now: Date): string {
  const occurrences: string[] = [];
  for (let at = now; occurrences.length < OCCURRENCES_SHOWN; occurrences.push(at.toISOString())) {
    at = schedule.next(at);
  }
  return `The next ${OCCURRENCES_SHOWN} occurrences of '${schedule.text}' (UTC): ${occurrences.join(", ")}`;
}
