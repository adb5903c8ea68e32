import type { Clock } from "../../kernel/clock.ts";
import type { Run } from "../../kernel/run.ts";
import type { Comparison, TenantSides } from "./classify-drift.ts";
import { type CounterKey, type CounterSource, parseCounterKeys, scopeOf } from "./counter-key.ts";
import type { LegacyPosition } from "./legacy-message.ts";
import { planComparisons } from "./plan-comparisons.ts";
import {
  type CounterMove,
  type CounterReading,
  planCounters,
  type Remembered,
} from "./plan-counters.ts";

/** Counters that one page reads and one call moves. */
export const COUNTERS_PER_PAGE = 1000;

/** The cumulative counters of older producers, in Redis. */
export interface LegacyCounters {
  /** False where a scan covers one node of several and would miss counters without a word. */
  canScan(signal: AbortSignal): Promise<boolean>;
  /** Keys of the pattern; the same key may come twice. The scan ends with the cursor "0". */
  scan(glob: string, cursor: string, signal: AbortSignal): Promise<CounterPage>;
  /** In the order of the keys. null = gone; undefined = there is something else than a counter. */
  read(
    keys: readonly string[],
    signal: AbortSignal,
  ): Promise<readonly (string | null | undefined)[]>;
}

export interface CounterPage {
  readonly cursor: string;
  readonly keys: readonly string[];
}

/** What Postgres remembers of the counters. */
export interface CounterLedger {
  /** Keys that nobody remembers under the scope are left out. */
  find(scope: string, keys: readonly string[], signal: AbortSignal): Promise<RememberedPage>;
  /** By tenant and key, after a row, with both sides of each tenant. */
  list(
    scope: string,
    after: { readonly tenant: string; readonly key: string },
    max: number,
    signal: AbortSignal,
  ): Promise<TenantPage>;
  /**
   * One transaction: values, bookings, comparisons, findings and the numbers of the run. A counter that is not where
   * the caller saw it stays where it is.
   */
  move(
    runId: string,
    scope: string,
    moves: readonly CounterMove[],
    comparisons: readonly Comparison[],
    signal: AbortSignal,
  ): Promise<{ readonly moved: number; readonly stale: number }>;
}

export interface RememberedPage {
  /** Every counter of the scope was met before. */
  readonly isBased: boolean;
  readonly counters: readonly Remembered[];
}

export interface TenantPage {
  readonly isBased: boolean;
  readonly counters: readonly (Remembered & { readonly tenant: string })[];
  readonly tenants: readonly TenantSides[];
}

export interface CounterConfig extends CounterSource {
  /** Tenants whose growth is booked, because they have no other lane. */
  readonly counterTenants: ReadonlySet<string>;
}

export interface PollCountersDeps {
  readonly clock: Clock;
  readonly legacyCounters: LegacyCounters;
  readonly counterLedger: CounterLedger;
}

type PollPosition = Extract<LegacyPosition, { phase: "poll" }>;

/**
 * One page of the scan for counters that nobody remembers yet. The first scan under a scope remembers their values;
 * later ones know that a new counter is all growth. Repeating a page moves nothing twice.
 */
export async function discoverCounters(
  deps: PollCountersDeps,
  config: CounterConfig,
  runId: string,
  cursor: string,
  run: Run,
): Promise<LegacyPosition> {
  const { counterPattern } = config;
  if (cursor === "0" && !(await deps.legacyCounters.canScan(run.signal))) {
    run.log.warn("usage_legacy_counters_on_cluster", { pattern: counterPattern.glob });
    return { phase: "finish", counters: "cluster" };
  }
  const scope = scopeOf(config);
  const page = await deps.legacyCounters.scan(counterPattern.glob, cursor, run.signal);
  const counters = parseCounterKeys(page.keys, config);
  const keys = counters.map(({ key }) => key);
  const { isBased, counters: known } = await deps.counterLedger.find(scope, keys, run.signal);
  const remembered = new Set(known.map(({ key }) => key));
  const unknown = counters.filter(({ key }) => !remembered.has(key));
  const readings = await readAll(deps, unknown, new Map(), run);
  const moves = planCounters(readings, factsOf(deps, config, isBased));
  if (moves.length > 0) await deps.counterLedger.move(runId, scope, moves, [], run.signal);
  return page.cursor === "0"
    ? { phase: "poll", tenant: "", key: "" }
    : { phase: "discover", cursor: page.cursor };
}

/**
 * One page of the remembered counters. What is booked is read before the counters are, and a use is counted before it
 * is booked: so counters that are behind are never just late. Values, bookings and comparisons move together.
 */
export async function pollCounters(
  deps: PollCountersDeps,
  config: CounterConfig,
  runId: string,
  position: PollPosition,
  run: Run,
): Promise<LegacyPosition> {
  const scope = scopeOf(config);
  const page = await deps.counterLedger.list(scope, position, COUNTERS_PER_PAGE, run.signal);
  const isLast = page.counters.length < COUNTERS_PER_PAGE;
  const known = new Map(page.counters.map((counter) => [counter.key, counter]));
  const counters = parseCounterKeys([...known.keys()], config);
  const readings = await readAll(deps, counters, known, run);
  const moves = planCounters(readings, factsOf(deps, config, page.isBased));
  const { comparisons, unfinished } = planComparisons({
    page,
    moves,
    carried: position.booked === undefined ? undefined : { ...position, ...position.booked },
    isLast,
    counterTenants: config.counterTenants,
  });
  if (moves.length + comparisons.length > 0) {
    await deps.counterLedger.move(runId, scope, moves, comparisons, run.signal);
  }
  const last = page.counters.at(-1);
  if (isLast || last === undefined) return { phase: "finish", counters: "compared" };
  const booked = unfinished === undefined ? {} : { booked: unfinished };
  return { phase: "poll", tenant: last.tenant, key: last.key, ...booked };
}

const factsOf = (deps: PollCountersDeps, config: CounterConfig, isBased: boolean) => ({
  scope: scopeOf(config),
  isBased,
  bookedTenants: config.counterTenants,
  now: deps.clock.now(),
});

async function readAll(
  deps: PollCountersDeps,
  counters: readonly CounterKey[],
  known: ReadonlyMap<string, Remembered>,
  run: Run,
): Promise<CounterReading[]> {
  if (counters.length === 0) return [];
  const keys = counters.map(({ key }) => key);
  const values = await deps.legacyCounters.read(keys, run.signal);
  const unreadable = values.filter((value) => value === undefined).length;
  if (unreadable > 0) run.log.warn("usage_legacy_counters_unreadable", { counters: unreadable });
  return counters.flatMap((counter, i) => {
    const value = values[i];
    return value === undefined ? [] : [{ counter, known: known.get(counter.key), value }];
  });
}
