import type { UseEntry } from "../log-entry.ts";
import { type CounterMove, growthOf } from "./plan-counters.ts";
import type { PendingPlan } from "./plan-pending.ts";

/** A preview is for people. */
const TENANTS_MAX = 50;
const SAMPLES_MAX = 20;
const RAW_CHARACTERS_MAX = 500;

export type PendingPreview =
  | { readonly state: "off" }
  | {
      readonly state: "read";
      /** Members in the set. */
      readonly size: number;
      readonly read: number;
      /** All members were read. */
      readonly isComplete: boolean;
      readonly wouldBook: { readonly uses: number; readonly tokens: string };
      readonly duplicates: number;
      readonly wouldSetAside: number;
      readonly tenants: TenantPreview[];
      readonly samples: UseSample[];
      readonly setAsideSamples: { readonly error: string; readonly raw: string }[];
    };

export interface TenantPreview {
  readonly tenant: string;
  readonly uses: number;
  readonly tokens: string;
}

export interface UseSample {
  readonly tenant: string;
  readonly tokens: string;
  readonly type: string;
  readonly model: string;
  readonly period: number;
}

export type CounterPreview =
  | { readonly state: "off" | "cluster" }
  | {
      readonly state: "read";
      readonly read: number;
      readonly isComplete: boolean;
      /** False = no complete reading yet: values would only be remembered. */
      readonly isBased: boolean;
      readonly wouldRemember: number;
      readonly gaps: number;
      readonly grown: string;
      readonly wouldBook: string;
      readonly tenants: TenantGrowth[];
      readonly samples: CounterSample[];
    };

export interface TenantGrowth {
  readonly tenant: string;
  readonly grown: string;
  /** Booked, or only compared with what the other lanes booked. */
  readonly books: boolean;
}

export interface CounterSample {
  readonly key: string;
  readonly kind: "first" | "growth" | "gap";
  readonly from: string;
  readonly to: string;
}

/** Pure. */
export function summarisePending({
  plan,
  booked,
  ...counts
}: {
  readonly plan: PendingPlan;
  readonly booked: ReadonlySet<string>;
  readonly size: number;
  readonly read: number;
  readonly isComplete: boolean;
}): PendingPreview {
  const fresh = new Map(
    plan.uses.flatMap((use) => (booked.has(use.uid) ? [] : [[use.uid, use] as const])),
  );
  const uses = [...fresh.values()];
  return {
    state: "read",
    ...counts,
    wouldBook: { uses: uses.length, tokens: sumOf(uses) },
    duplicates: plan.uses.length - uses.length,
    wouldSetAside: plan.bad.length,
    tenants: byTenant(uses),
    samples: uses.slice(0, SAMPLES_MAX).map(toSample),
    setAsideSamples: plan.bad
      .slice(0, SAMPLES_MAX)
      .map(({ error, raw }) => ({ error, raw: raw.slice(0, RAW_CHARACTERS_MAX) })),
  };
}

const toSample = ({ tenant, tokens, type, model, period }: UseEntry): UseSample => ({
  tenant,
  tokens,
  type,
  model,
  period,
});

const sumOf = (uses: readonly UseEntry[]): string =>
  String(uses.reduce((sum, { tokens }) => sum + BigInt(tokens), 0n));

function byTenant(uses: readonly UseEntry[]): TenantPreview[] {
  return [...Map.groupBy(uses, ({ tenant }) => tenant)]
    .map(([tenant, own]) => ({ tenant, uses: own.length, tokens: sumOf(own) }))
    .sort((a, b) => compare(b.tokens, a.tokens))
    .slice(0, TENANTS_MAX);
}

/** Pure. */
export function summariseCounters({
  moves,
  ...counts
}: {
  readonly moves: readonly CounterMove[];
  readonly read: number;
  readonly isComplete: boolean;
  readonly isBased: boolean;
}): CounterPreview {
  const booking = new Set(moves.flatMap(({ books, counter }) => (books ? counter.tenant : [])));
  const growth = [...growthOf(moves)].map(([tenant, grown]) => ({
    tenant,
    grown: String(grown),
    books: booking.has(tenant),
  }));
  const total = (rows: readonly TenantGrowth[]): string =>
    String(rows.reduce((sum, { grown }) => sum + BigInt(grown), 0n));
  return {
    state: "read",
    ...counts,
    wouldRemember: moves.filter(({ kind }) => kind === "first").length,
    gaps: moves.filter(({ kind }) => kind === "gap").length,
    grown: total(growth),
    wouldBook: total(growth.filter(({ books }) => books)),
    tenants: growth.sort((a, b) => compare(b.grown, a.grown)).slice(0, TENANTS_MAX),
    samples: moves.slice(0, SAMPLES_MAX).map(({ counter, kind, known, value }) => ({
      key: counter.key,
      kind,
      from: known?.seen ?? "0",
      to: value,
    })),
  };
}

const compare = (a: string, b: string): number => {
  const difference = BigInt(a) - BigInt(b);
  return difference === 0n ? 0 : difference < 0n ? -1 : 1;
};
