import { dayOf, eventIdOf, periodOf } from "../usage-keys.ts";
import type { CounterKey } from "./counter-key.ts";

/** What Postgres remembers of a counter. */
export interface Remembered {
  readonly key: string;
  readonly seen: string;
  readonly generation: number;
}

/** What Redis says now; null = the key is gone. */
export interface CounterReading {
  readonly counter: CounterKey;
  readonly known: Remembered | undefined;
  readonly value: string | null;
}

/** `first`: remember only. `growth`: used since. `gap`: nobody knows what happened, so nothing is booked. */
export type CounterStep =
  | { readonly kind: "first" | "growth" }
  | { readonly kind: "gap"; readonly cause: GapCause };

/**
 * `counter_fell`: reset, expired or rewound, and whatever it counted in between is unknown. `counter_jumped`: grew by
 * more than any honest interval.
 */
export type GapCause = "counter_fell" | "counter_jumped";

export type CounterMove = CounterStep & {
  readonly counter: CounterKey;
  readonly known: Remembered | undefined;
  readonly value: string;
  /** Its growth is booked: the tenant has no other lane. */
  readonly books: boolean;
  /** From scope, key, generation, from and to: the same move is the same use. */
  readonly uid: string;
  /** Of the poll: a cumulative counter does not say when. */
  readonly period: number;
  readonly day: number;
};

export interface CounterPlanFacts {
  readonly scope: string;
  /** Every counter of the scope was met before, so an unknown one is new and all of it is growth. */
  readonly isBased: boolean;
  /** Tenants whose growth is booked. */
  readonly bookedTenants: ReadonlySet<string>;
  readonly now: number;
}

/** More than a tenant can use between two polls: a slip, or a value that somebody set. */
const JUMP_MIN = 1_000_000_000_000_000n;

/** The counters that moved. Pure. */
export function planCounters(
  readings: readonly CounterReading[],
  facts: CounterPlanFacts,
): CounterMove[] {
  return readings.flatMap((reading) => {
    const step = stepOf(reading, facts.isBased);
    return step === undefined ? [] : [toMove(step, reading, facts)];
  });
}

function stepOf({ known, value }: CounterReading, isBased: boolean): CounterStep | undefined {
  if (known === undefined) {
    if (value === null) return undefined;
    if (!isBased || value === "0") return { kind: "first" };
  }
  const grown = BigInt(value ?? "0") - BigInt(known?.seen ?? "0");
  if (grown === 0n) return undefined;
  if (grown < 0n) return { kind: "gap", cause: "counter_fell" };
  return grown > JUMP_MIN ? { kind: "gap", cause: "counter_jumped" } : { kind: "growth" };
}

function toMove(
  step: CounterStep,
  { counter, known, value }: CounterReading,
  { scope, bookedTenants, now }: CounterPlanFacts,
): CounterMove {
  const to = value ?? "0";
  const from = [known?.generation ?? 0, known?.seen ?? "0"];
  return {
    ...step,
    counter,
    known,
    value: to,
    books: bookedTenants.has(counter.tenant),
    uid: eventIdOf(counter.tenant, ["legacy_counter", scope, counter.key, ...from, to].join("\0")),
    period: periodOf(now),
    day: dayOf(now),
  };
}

/** Growth by tenant. */
export function growthOf(moves: readonly CounterMove[]): ReadonlyMap<string, bigint> {
  const sums = new Map<string, bigint>();
  for (const { kind, counter, known, value } of moves) {
    if (kind !== "growth") continue;
    const grown = BigInt(value) - BigInt(known?.seen ?? "0");
    sums.set(counter.tenant, (sums.get(counter.tenant) ?? 0n) + grown);
  }
  return sums;
}
