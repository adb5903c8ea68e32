import type { Alerts } from "../kernel/alerts.ts";
import type { Clock } from "../kernel/clock.ts";
import { toFailure } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";

export interface QueueState {
  /** Approximate, and with the messages that cannot be seen yet. */
  readonly messages: number;
  /** When the oldest message that waits for its consumer was put in; undefined = none waits. */
  readonly oldestAt: number | undefined;
}

export interface QueuePeeks {
  /** Takes nothing. Undefined when there is no such queue. */
  peek(queue: string, signal: AbortSignal): Promise<QueueState | undefined>;
}

export interface BacklogDeps {
  readonly clock: Clock;
  readonly alerts: Alerts;
  readonly queuePeeks: QueuePeeks;
  readonly backlogConfig: { readonly queues: readonly string[]; readonly ageWarnSeconds: number };
}

/** So many times older is critical. */
const CRITICAL_FACTOR = 4;
/** Queues that are asked at the same time. */
const AT_ONCE = 6;

/** Judges each storage queue by the age of the oldest message that waits in it. One that cannot be asked stops no other. */
export async function judgeBacklog(
  deps: BacklogDeps,
  run: Run,
): Promise<Readonly<Record<string, unknown>>> {
  const waiting = deps.backlogConfig.queues.values();
  const totals = { messages: 0, oldestSeconds: 0, late: 0, missing: 0, unread: 0 };
  const work = async () => {
    for (const queue of waiting) {
      const seen = await judgeQueue(deps, queue, run);
      totals.messages += seen.messages ?? 0;
      totals.oldestSeconds = Math.max(totals.oldestSeconds, seen.ageSeconds ?? 0);
      totals[seen.kind === "fine" ? "late" : seen.kind] += seen.kind === "fine" ? 0 : 1;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return totals;
}

interface Judged {
  readonly kind: "fine" | "late" | "missing" | "unread";
  readonly messages?: number;
  readonly ageSeconds?: number;
}

async function judgeQueue(
  { clock, alerts, queuePeeks, backlogConfig }: BacklogDeps,
  queue: string,
  run: Run,
): Promise<Judged> {
  let state: QueueState | undefined;
  try {
    state = await queuePeeks.peek(queue, run.signal);
  } catch (error) {
    run.log.warn("queue_not_read", { queue, code: toFailure(error).code });
    return { kind: "unread" };
  }
  if (state === undefined) {
    await alerts.raise(missing(queue), run.signal);
    return { kind: "missing" };
  }
  await alerts.resolve(`queue_missing:${queue}`, run.signal);
  const ageSeconds =
    state.oldestAt === undefined
      ? 0
      : Math.max(0, Math.round((clock.now() - state.oldestAt) / 1000));
  const isLate = ageSeconds > backlogConfig.ageWarnSeconds;
  if (isLate) await alerts.raise(late(queue, state, ageSeconds, backlogConfig), run.signal);
  else await alerts.resolve(`queue_backlog:${queue}`, run.signal);
  return { kind: isLate ? "late" : "fine", messages: state.messages, ageSeconds };
}

const missing = (queue: string) => ({
  key: `queue_missing:${queue}`,
  level: "critical" as const,
  title: "A storage queue does not exist",
  evidence: { queue },
  runbook: "docs/operations/a-queue-is-not-consumed.md",
});

const late = (
  queue: string,
  { messages }: QueueState,
  ageSeconds: number,
  { ageWarnSeconds }: BacklogDeps["backlogConfig"],
) => ({
  key: `queue_backlog:${queue}`,
  level:
    ageSeconds > CRITICAL_FACTOR * ageWarnSeconds ? ("critical" as const) : ("warning" as const),
  title: "Messages wait too long in a queue",
  evidence: { queue, messages, ageSeconds },
  runbook: "docs/operations/a-queue-is-not-consumed.md",
  value: String(ageSeconds),
  threshold: String(ageWarnSeconds),
});
