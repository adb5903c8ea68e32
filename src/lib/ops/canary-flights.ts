import type { Alerts } from "../kernel/alerts.ts";
import type { Clock } from "../kernel/clock.ts";
import { toFailure } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import { canaryMessage } from "./canary.ts";

export interface CanaryState {
  readonly queue: string;
  /** Age of the oldest canary that did not arrive since the last that did; undefined = none is on its way. */
  readonly sinceSeconds: number | undefined;
  /** Way of the last that arrived; undefined = none ever did. */
  readonly tookMs: number | undefined;
}

export interface CanaryLedger {
  /** Makes a canary for each queue that needs one. */
  start(
    queues: readonly string[],
    bounds: { readonly everySeconds: number; readonly lostSeconds: number },
    signal: AbortSignal,
  ): Promise<readonly { readonly id: string; readonly queue: string }[]>;
  withdraw(ids: readonly string[], signal: AbortSignal): Promise<void>;
  read(queues: readonly string[], signal: AbortSignal): Promise<readonly CanaryState[]>;
}

export interface CanaryFlightDeps {
  readonly clock: Clock;
  readonly alerts: Alerts;
  readonly canaryConfig: {
    /** 0 = no canaries. */
    readonly everyMinutes: number;
    readonly queues: readonly string[];
  };
  readonly canaryLedger: CanaryLedger;
  readonly canarySender: {
    send(queue: string, message: object, options: object, signal: AbortSignal): Promise<void>;
  };
}

/** A cold start, and a queue that is polled once a minute, are not worth an alert. */
const LATE_SECONDS = 300;
/** Then it is taken for lost, and another one is sent. */
const LOST_SECONDS = 3600;

/**
 * Sends a canary through each queue now and then, and reports the queues whose consumer did not write it off: it is
 * disabled, stuck or gone, or the platform does not call it. At most one canary is on its way in each queue.
 */
export async function flyCanaries(
  deps: CanaryFlightDeps,
  run: Run,
): Promise<Readonly<Record<string, unknown>>> {
  const { canaryConfig, canaryLedger } = deps;
  if (canaryConfig.everyMinutes === 0) return { off: true };
  const bounds = { everySeconds: canaryConfig.everyMinutes * 60, lostSeconds: LOST_SECONDS };
  const started = await canaryLedger.start(canaryConfig.queues, bounds, run.signal);
  const unsent = await sendAll(deps, started, run);
  if (unsent.length > 0) await canaryLedger.withdraw(unsent, run.signal);
  const states = await canaryLedger.read(canaryConfig.queues, run.signal);
  const late = states.filter(({ sinceSeconds }) => (sinceSeconds ?? 0) > LATE_SECONDS);
  for (const state of states) await report(deps.alerts, state, run.signal);
  const slowestMs = Math.max(0, ...states.map(({ tookMs }) => tookMs ?? 0));
  return {
    sent: started.length - unsent.length,
    unsent: unsent.length,
    late: late.map(({ queue }) => queue),
    slowestMs,
  };
}

/** @returns ids of those that could not be sent; a send whose answer was lost may have been, and counts as such. */
async function sendAll(
  { clock, canarySender }: CanaryFlightDeps,
  canaries: readonly { readonly id: string; readonly queue: string }[],
  run: Run,
): Promise<string[]> {
  const failed: string[] = [];
  for (const { id, queue } of canaries) {
    try {
      await canarySender.send(queue, canaryMessage(id, clock.now()), {}, run.signal);
    } catch (error) {
      failed.push(id);
      run.log.warn("canary_not_sent", { queue, code: toFailure(error).code });
    }
  }
  return failed;
}

async function report(
  alerts: Alerts,
  { queue, sinceSeconds, tookMs }: CanaryState,
  signal: AbortSignal,
): Promise<void> {
  const key = `queue_canary:${queue}`;
  if (sinceSeconds === undefined) return alerts.resolve(key, signal);
  if (sinceSeconds <= LATE_SECONDS) return;
  await alerts.raise(
    {
      key,
      level: "critical",
      title: "A queue is not consumed",
      evidence: { queue, sinceSeconds, lastTookMs: tookMs ?? null },
      runbook: "docs/operations/a-queue-is-not-consumed.md",
      value: String(sinceSeconds),
      threshold: String(LATE_SECONDS),
    },
    signal,
  );
}
