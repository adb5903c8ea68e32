/** What a producer or a handler saw, in the order in which it wrote it down. */
export interface WorkEvent {
  readonly t: "accepted" | "unsure" | "start" | "effect" | "refused" | "end";
  readonly id: string;
  readonly key?: string;
  /** Counts the claims of an item from 1. */
  readonly fence?: number;
  /** Of an end: `retry`, or a final one. */
  readonly outcome?: string;
}

export interface Verdict {
  /** Accepted, and never ended. */
  readonly lost: readonly string[];
  /** Of items that nobody asked for. */
  readonly unexpected: readonly WorkEvent[];
  /** Started although nobody knows whether it was accepted, and never ended. */
  readonly half: readonly string[];
  /** Effects that happened more than once. */
  readonly duplicated: readonly string[];
  /** Attempts that somebody else took over. */
  readonly recovered: number;
  /** Take-overs that the logs cannot tell: a worker died between its claim and its first line, or after it noted a retry. */
  readonly slack: number;
  readonly isTakeoverCountRight: boolean;
}

/**
 * Compares what was recorded outside of the queue with what the queue says, after the faults stopped and everything
 * came to rest: nothing lost, nothing made up, no effect twice, and as many take-overs as the queue counted. `last`: of
 * those, the ones of items that nobody took again.
 */
export function checkAccounting(
  log: readonly WorkEvent[],
  takeovers: number,
  last: number,
): Verdict {
  const idsOf = (...kinds: WorkEvent["t"][]) =>
    new Set(log.filter(({ t }) => kinds.includes(t)).map(({ id }) => id));
  const accepted = idsOf("accepted");
  const known = idsOf("accepted", "unsure");
  const started = idsOf("start");
  const ended = new Set(
    log.filter(({ t, outcome }) => t === "end" && outcome !== "retry").map(({ id }) => id),
  );
  const { recovered, slack: unseen } = countTakeovers(log);
  const slack = unseen + last;
  return {
    lost: [...accepted].filter((id) => !ended.has(id)),
    unexpected: log.filter(({ id }) => !known.has(id)),
    half: [...known].filter((id) => !accepted.has(id) && started.has(id) && !ended.has(id)),
    duplicated: repeated(log.filter(({ t }) => t === "effect").map(({ key }) => key ?? "")),
    recovered,
    slack,
    isTakeoverCountRight: recovered <= takeovers && takeovers <= recovered + slack,
  };
}

function countTakeovers(log: readonly WorkEvent[]): { recovered: number; slack: number } {
  const retried = new Set(
    log
      .filter(({ t, outcome }) => t === "end" && outcome === "retry")
      .map(({ id, fence }) => `${id}#${fence}`),
  );
  const fences = new Map<string, Set<number>>();
  for (const { t, id, fence = 0 } of log) {
    if (t === "start") fences.set(id, (fences.get(id) ?? new Set()).add(fence));
  }
  let recovered = 0;
  let slack = 0;
  for (const [id, seen] of fences) {
    const last = Math.max(...seen);
    slack += last - seen.size; // claims without a first line
    for (const fence of seen) {
      if (fence === last) continue;
      if (retried.has(`${id}#${fence}`)) slack += 1;
      else recovered += 1;
    }
  }
  return { recovered, slack };
}

function repeated(keys: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
  return [...counts].filter(([, count]) => count > 1).map(([key]) => key);
}
