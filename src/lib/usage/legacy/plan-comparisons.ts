import { type Comparison, classifyDrift, type TenantSides } from "./classify-drift.ts";
import { type CounterMove, growthOf } from "./plan-counters.ts";

/** What a tenant had booked before its first counter of this run was read, and whether one fell so far. */
export interface Unfinished {
  readonly direct: string;
  readonly pending: string;
  readonly hasGap: boolean;
}

export interface ComparisonPageFacts {
  readonly page: {
    readonly isBased: boolean;
    readonly counters: readonly { readonly tenant: string }[];
    readonly tenants: readonly TenantSides[];
  };
  readonly moves: readonly CounterMove[];
  /** The tenant whose counters the page before did not finish. */
  readonly carried: (Unfinished & { readonly tenant: string }) | undefined;
  /** No counters follow. */
  readonly isLast: boolean;
  readonly counterTenants: ReadonlySet<string>;
}

/**
 * Compares the tenants whose last counter is in the page. The last tenant of a page may go on in the next one: it is
 * handed on with what it had booked before its first counter was read. Nothing is compared before every counter was
 * met once. Pure.
 */
export function planComparisons(facts: ComparisonPageFacts): {
  readonly comparisons: readonly Comparison[];
  readonly unfinished: Unfinished | undefined;
} {
  const { page, moves, carried, isLast, counterTenants } = facts;
  const growth = growthOf(moves);
  const fallen = new Set(
    moves.flatMap(({ kind, counter }) => (kind === "gap" ? counter.tenant : [])),
  );
  const lastTenant = page.counters.at(-1)?.tenant;
  let unfinished: Unfinished | undefined;
  const comparisons: Comparison[] = [];
  for (const read of page.tenants) {
    const before = carried?.tenant === read.tenant ? carried : undefined;
    const hasGap = fallen.has(read.tenant) || before?.hasGap === true;
    const { direct, pending } = before ?? read;
    if (!isLast && read.tenant === lastTenant) {
      unfinished = { direct, pending, hasGap };
      continue;
    }
    const grown = String(BigInt(read.grown) + (growth.get(read.tenant) ?? 0n));
    const sides = { ...read, direct, pending, grown };
    const isCounterOnly = counterTenants.has(read.tenant);
    const comparison = classifyDrift(sides, { isCounterOnly, hasGap });
    if (page.isBased && comparison !== undefined) comparisons.push(comparison);
  }
  return { comparisons, unfinished };
}
