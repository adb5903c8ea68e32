/**
 * Both sides of a tenant: what its counters grew by, and what its other lanes booked. Amounts are decimal strings, all
 * of them since its first counter was met; the `compared…` ones say how far they were compared.
 */
export interface TenantSides {
  readonly tenant: string;
  readonly grown: string;
  readonly direct: string;
  readonly pending: string;
  readonly comparedGrown: string;
  readonly comparedDirect: string;
  readonly comparedPending: string;
  /** Counted and not booked so far; negative: booked and not counted. */
  readonly apart: string;
  readonly cause: string | null;
  /** Members of the pending set that wait in quarantine. */
  readonly setAside: number;
}

/**
 * Why the two sides moved apart, the most likely reason first:
 * - `settled`: they came together again; what was apart had been in flight.
 * - `counter_only_producer`: counted, and nothing was booked at all: the tenant may need its counters booked.
 * - `set_aside`: counted, and the record of it waits in quarantine.
 * - `in_flight`: counted, and not yet booked when both sides were read.
 * - `not_booked`: was in flight at the comparison before and still is not booked: both writes of the use failed.
 * - `counter_fell`: a counter was reset, so part of its growth is unknown.
 * - `booked_by_other_lanes`: the counters of the tenant are booked, and its other lanes booked the same uses again.
 * - `direct_committed_and_pending`: a direct call timed out at the producer, had been committed, and its use was also
 *   put into the pending set: booked twice.
 * - `not_counted`: booked, and the counter did not move: Redis did not answer the producer.
 */
export type DriftCause =
  | "settled"
  | "counter_only_producer"
  | "set_aside"
  | "in_flight"
  | "not_booked"
  | "counter_fell"
  | "booked_by_other_lanes"
  | "direct_committed_and_pending"
  | "not_counted";

export interface Comparison {
  readonly sides: TenantSides;
  readonly apart: string;
  readonly cause: string | null;
  /** What to report: null when the sides moved by the same. */
  readonly drift: { readonly tokens: string; readonly cause: DriftCause } | null;
}

export interface ComparisonFacts {
  /** The growth of the tenant's counters is booked. */
  readonly isCounterOnly: boolean;
  /** One of its counters fell or jumped since. */
  readonly hasGap: boolean;
}

/** Undefined when nothing moved and nothing is left to say. Pure. */
export function classifyDrift(sides: TenantSides, facts: ComparisonFacts): Comparison | undefined {
  const moved = intervalOf(sides);
  const before = BigInt(sides.apart);
  const drift = driftOf(moved, facts.isCounterOnly);
  const isStill = moved.grown === 0n && moved.direct === 0n && moved.pending === 0n;
  if (isStill && !(sides.cause === "in_flight" && before > 0n)) return undefined;
  const apart = before + drift;
  const cause = causeOf({ drift, before, moved, sides, facts });
  return {
    sides,
    apart: String(apart),
    cause: lastingCause(apart, cause, sides.cause),
    drift: cause === undefined ? null : { tokens: String(drift), cause },
  };
}

interface Interval {
  readonly grown: bigint;
  readonly direct: bigint;
  readonly pending: bigint;
}

/** What moved since the comparison before. */
export const intervalOf = (sides: TenantSides): Interval => ({
  grown: BigInt(sides.grown) - BigInt(sides.comparedGrown),
  direct: BigInt(sides.direct) - BigInt(sides.comparedDirect),
  pending: BigInt(sides.pending) - BigInt(sides.comparedPending),
});

/** Where growth is booked it agrees with itself, and whatever else was booked is too much. */
const driftOf = ({ grown, direct, pending }: Interval, isCounterOnly: boolean): bigint =>
  (isCounterOnly ? 0n : grown) - direct - pending;

interface CauseFacts {
  readonly drift: bigint;
  readonly before: bigint;
  readonly moved: Interval;
  readonly sides: TenantSides;
  readonly facts: ComparisonFacts;
}

function causeOf(given: CauseFacts): DriftCause | undefined {
  const { drift, before, sides } = given;
  if (drift === 0n) return before > 0n && sides.cause === "in_flight" ? "not_booked" : undefined;
  const isCloser = abs(before + drift) < abs(before);
  if (isCloser) return "settled";
  return drift > 0n ? causeOfSurplus(given) : causeOfExcess(given);
}

function causeOfSurplus({ moved, sides }: CauseFacts): DriftCause {
  if (moved.direct + moved.pending === 0n && sides.direct === "0" && sides.pending === "0")
    return "counter_only_producer";
  return sides.setAside > 0 ? "set_aside" : "in_flight";
}

function causeOfExcess({ drift, moved, facts }: CauseFacts): DriftCause {
  if (facts.isCounterOnly) return "booked_by_other_lanes";
  if (facts.hasGap) return "counter_fell";
  return moved.pending >= -drift ? "direct_committed_and_pending" : "not_counted";
}

/** What is left apart keeps the reason it came apart for. */
function lastingCause(
  apart: bigint,
  cause: DriftCause | undefined,
  before: string | null,
): string | null {
  if (apart === 0n) return null;
  return cause === undefined || cause === "settled" ? before : cause;
}

const abs = (n: bigint): bigint => (n < 0n ? -n : n);
