import { AppError } from "../kernel/errors.ts";
import { SHARD_COUNT } from "./usage-keys.ts";

/** How far the log of a shard was once. */
export interface Observation {
  readonly shard: number;
  readonly inc: string;
  readonly n: string;
  readonly cum: string;
  /** Null = nobody counted. */
  readonly count: string | null;
  /** Of entry n; null when that is no use, or was observed by an older version. */
  readonly anchor: string | null;
}

/** One question to a log: is it still the one of this observation? */
export interface Check {
  readonly shard: number;
  readonly last: Observation | undefined;
}

export interface Verdict {
  readonly shard: number;
  /**
   * - `confirmed`: nothing contradicts the observation, or there was none
   * - `contradicted`: it is not that log any more; its lineage was ended with this answer
   * - `ended`: its lineage had ended before
   */
  readonly kind: "confirmed" | "contradicted" | "ended";
  /** The log now; lineage '' = Redis has none. */
  readonly head: Observation;
  /** How much of an ended lineage is left. */
  readonly kept: { readonly n: string; readonly cum: string; readonly count: string | null };
  readonly last: Observation | undefined;
}

/** Every shard is asked, and once more for each older lineage that nobody settled. */
export function planChecks(observations: readonly Observation[]): Check[] {
  const known = Map.groupBy(observations, ({ shard }) => shard);
  const shards = Array.from({ length: SHARD_COUNT }, (_, shard) => shard);
  return shards.flatMap((shard): Check[] => {
    const list = known.get(shard) ?? [undefined];
    return list.map((last) => ({ shard, last }));
  });
}

/** The answers that change what is remembered: a log that moved, and a lineage that ended. */
export const planWrites = (answers: readonly (Verdict | AppError)[]): Verdict[] =>
  answers.filter((answer): answer is Verdict => !(answer instanceof AppError) && isNews(answer));

function isNews({ kind, head, last }: Verdict): boolean {
  if (kind !== "confirmed") return true;
  if (head.inc === "") return false;
  return last === undefined || head.inc !== last.inc || head.n !== last.n;
}
