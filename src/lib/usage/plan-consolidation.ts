import { hash } from "node:crypto";
import { anchorOf, type LogRow } from "./log-entry.ts";
import type { ShardCursor, ShardHead } from "./plan-shards.ts";
import type { Cut } from "./plan-step.ts";
import { counterExpiryOf, keysOf, periodOf } from "./usage-keys.ts";

const DAY_MS = 86_400_000;
/** No counter lives longer than this after the beginning of its month. */
const COUNTER_LIFE_DAYS_MAX = 80;
/** A counter this close to its expiry is left alone: it may be gone before it is corrected. */
const EXPIRY_MARGIN_MS = DAY_MS;

/** The counters of a shard and the end of its log, read in one instant. */
export interface CounterSnapshot {
  /** Lineage, or '' when Redis has none. */
  readonly inc: string;
  readonly n: string;
  readonly cum: string;
  readonly count: string;
  /** Name of the last repair, or ''. */
  readonly epoch: string;
  /** The newest entry of the log, whoever wrote it. */
  readonly last: LogRow | undefined;
  readonly counters: readonly Counter[];
}

export interface Counter {
  readonly tenant: string;
  readonly period: number;
  /** Null = Redis holds something that is not a number. */
  readonly tokens: string | null;
}

/** What a counter has to change by. */
export interface Correction {
  readonly tenant: string;
  readonly period: number;
  readonly delta: string;
}

/**
 * The months whose counters must be there: from the oldest that has not nearly expired to the next one, which producers
 * ahead of us in time already count.
 */
export function countedPeriods(nowMs: number): number[] {
  const last = nextPeriod(periodOf(nowMs));
  const periods: number[] = [];
  for (let p = periodOf(nowMs - COUNTER_LIFE_DAYS_MAX * DAY_MS); p <= last; p = nextPeriod(p)) {
    if (counterExpiryOf(p, 0) * 1000 - EXPIRY_MARGIN_MS > nowMs) periods.push(p);
  }
  return periods;
}

const nextPeriod = (period: number): number => (period % 100 === 12 ? period + 89 : period + 1);

/** The instant of a snapshot as a place in the log; a foreign entry at the end belongs to it. */
export function cutOf({ inc, n, cum, count, last }: CounterSnapshot): Cut & {
  readonly anchor: string | null;
} {
  const end = last !== undefined && BigInt(last.n) > BigInt(n) ? last.n : n;
  const anchor = last?.n === end ? (anchorOf(last)?.anchor ?? null) : null;
  return { inc, n: end, headN: n, cum, count, anchor };
}

/**
 * One hash for the counters of each period, as the ledger computes it of what they should be: MD5 of the lines
 * `<tokens> <tenant>`, by tenant, without those that are 0. A counter that is not a number matches nothing.
 */
export function digestsOf(
  counters: readonly Counter[],
  periods: readonly number[],
): Record<string, string> {
  const lines = Map.groupBy(counters, ({ period }) => period);
  const digestOf = (period: number): string =>
    hash(
      "md5",
      (lines.get(period) ?? [])
        .filter(({ tokens }) => tokens !== "0")
        .sort((a, b) => (a.tenant < b.tenant ? -1 : 1))
        .map(({ tokens, tenant }) => `${tokens} ${tenant}`)
        .join("\n"),
    );
  return Object.fromEntries(periods.map((period) => [period, digestOf(period)]));
}

/** Every shard that Redis or the ledger knows: after a flush Redis knows none. */
export function shardsWithCounters(
  heads: readonly ShardHead[],
  cursors: readonly ShardCursor[],
): number[] {
  const read = new Set(cursors.filter(({ inc }) => inc !== "").map(({ shard }) => shard));
  return heads.filter(({ inc, shard }) => inc !== "" || read.has(shard)).map(({ shard }) => shard);
}

/** Those of them where nothing waits to be booked: their counters can be compared as they are. */
export function idleShards(heads: readonly ShardHead[], cursors: readonly ShardCursor[]): number[] {
  const known = new Map(cursors.map((cursor) => [cursor.shard, cursor]));
  const isIdle = ({ shard, inc, n }: ShardHead): boolean => {
    const cursor = known.get(shard);
    return cursor !== undefined && inc !== "" && cursor.inc === inc && cursor.n === n;
  };
  return heads.filter(isIdle).map(({ shard }) => shard);
}

/** Keys and arguments of the repair script that follow its own. */
export function repairArguments(
  shard: number,
  corrections: readonly Correction[],
  nowMs: number,
): { keys: string[]; args: string[] } {
  const periods = Map.groupBy(corrections, ({ period }) => period);
  const keys: string[] = [];
  const args: string[] = [];
  for (const [period, list] of periods) {
    keys.push(keysOf(shard).counter(period));
    args.push(String(counterExpiryOf(period, nowMs)), String(list.length));
    for (const { tenant, delta } of list) args.push(tenant, delta);
  }
  return { keys, args };
}
