import type { Clock } from "../../kernel/clock.ts";
import { parseCounterKeys, scopeOf } from "./counter-key.ts";
import type { PendingSet } from "./drain-pending.ts";
import type { LegacyConfig } from "./legacy-config.ts";
import type { LegacyReads } from "./legacy-reads.supabase.ts";
import { type CounterMove, planCounters, type Remembered } from "./plan-counters.ts";
import { planPending } from "./plan-pending.ts";
import type { CounterLedger, LegacyCounters } from "./poll-counters.ts";
import {
  type CounterPreview,
  type PendingPreview,
  summariseCounters,
  summarisePending,
} from "./summarise-preview.ts";

/** Pages of a lane that a preview reads at the most, whatever Redis answers. */
const PAGES_MAX = 200;

export interface PreviewLegacyDeps {
  readonly clock: Clock;
  readonly pendingSet: PendingSet;
  readonly legacyReads: Pick<LegacyReads, "bookedOf">;
  readonly legacyCounters: LegacyCounters;
  readonly counterLedger: Pick<CounterLedger, "find">;
  readonly legacyConfig: LegacyConfig;
}

export interface LegacyPreview {
  readonly asOf: string;
  readonly pending: PendingPreview;
  readonly counters: CounterPreview;
}

/** What a drain would do now. Reads about `max` members and counters, and writes nothing, neither there nor here. */
export async function previewLegacy(
  deps: PreviewLegacyDeps,
  max: number,
  signal: AbortSignal,
): Promise<LegacyPreview> {
  const asOf = new Date(deps.clock.now()).toISOString();
  const pending = await previewPending(deps, max, signal);
  const counters = await previewCounters(deps, max, signal);
  return { asOf, pending, counters };
}

async function previewPending(
  deps: PreviewLegacyDeps,
  max: number,
  signal: AbortSignal,
): Promise<PendingPreview> {
  if (deps.legacyConfig.pendingKey === undefined) return { state: "off" };
  const members = new Set<string>();
  let cursor = "0";
  for (let pages = 0; pages < PAGES_MAX && members.size < max; pages += 1) {
    const page = await deps.pendingSet.scan(cursor, signal);
    for (const member of page.members) members.add(member);
    cursor = page.cursor;
    if (cursor === "0") break;
  }
  const read = [...members].slice(0, max);
  const plan = planPending(read, deps.clock.now());
  const booked = await deps.legacyReads.bookedOf(plan.uses, signal);
  const size = await deps.pendingSet.size(signal);
  const isComplete = cursor === "0" && read.length === members.size;
  return summarisePending({ plan, booked, size, read: read.length, isComplete });
}

async function previewCounters(
  deps: PreviewLegacyDeps,
  max: number,
  signal: AbortSignal,
): Promise<CounterPreview> {
  const { counterPattern, counterTenants, ...rest } = deps.legacyConfig;
  if (counterPattern === undefined) return { state: "off" };
  if (!(await deps.legacyCounters.canScan(signal))) return { state: "cluster" };
  const source = { ...rest, counterPattern };
  const scope = scopeOf(source);
  const moves = new Map<string, CounterMove>();
  let [cursor, read, isBased] = ["0", 0, true];
  for (let pages = 0; pages < PAGES_MAX && read < max; pages += 1) {
    const page = await deps.legacyCounters.scan(counterPattern.glob, cursor, signal);
    const counters = parseCounterKeys(page.keys, source);
    const keys = counters.map(({ key }) => key);
    const found = await deps.counterLedger.find(scope, keys, signal);
    const known = new Map<string, Remembered>(found.counters.map((it) => [it.key, it]));
    const values = await deps.legacyCounters.read(keys, signal);
    const readings = counters.flatMap((counter, i) => {
      const value = values[i];
      return value === undefined ? [] : [{ counter, known: known.get(counter.key), value }];
    });
    isBased = found.isBased;
    const facts = { scope, isBased, bookedTenants: counterTenants, now: deps.clock.now() };
    for (const move of planCounters(readings, facts)) moves.set(move.counter.key, move);
    read += keys.length;
    cursor = page.cursor;
    if (cursor === "0") break;
  }
  return summariseCounters({
    moves: [...moves.values()],
    read,
    isBased,
    isComplete: cursor === "0",
  });
}
