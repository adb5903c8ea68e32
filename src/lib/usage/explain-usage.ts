import { decodeEntries, type LogRow } from "./log-entry.ts";
import type { Cursor } from "./plan-step.ts";

/** Pending entries that the answer lists; the sum covers all that were read. */
const LISTED_MAX = 100;

/** What the ledger knows about a tenant and month at one instant. Amounts are decimal strings. */
export interface LedgerFacts {
  readonly cursor: Cursor | null;
  readonly total: { readonly tokens: string; readonly events: string };
  readonly ledger: {
    readonly billed: string;
    readonly used: string;
    /** Happened in the month, without the legacy lanes: what the counter in Redis counts too. */
    readonly logUsed: string;
    readonly late: string;
    readonly future: string;
    readonly adjusted: string;
    readonly legacy: string;
    readonly rows: number;
  };
  readonly quarantined: { readonly tokens: string; readonly entries: number };
  readonly gaps: readonly { readonly lost: string; readonly recovered: string }[];
}

/** What Redis says at one instant: the counter, and the log after the cursor of the ledger facts. */
export interface LogFacts {
  readonly inc: string;
  readonly n: string;
  readonly counter: string | null;
  readonly rows: readonly LogRow[];
  /** False when there were more entries than one answer may read. */
  readonly isWhole: boolean;
}

export interface PendingUse {
  readonly n: string;
  readonly uid: string;
  readonly tokens: string;
  readonly model: string;
}

export interface Explanation {
  /** counter = booked + pending + quarantined + difference; null when Redis has no counter. */
  readonly identity: {
    readonly recorded: string | null;
    readonly booked: string;
    readonly pending: string;
    readonly quarantined: string;
    readonly difference: string | null;
  };
  readonly pending: {
    readonly tokens: string;
    readonly entries: number;
    readonly isWhole: boolean;
    readonly rows: readonly PendingUse[];
  };
  readonly knownLost: string;
  readonly recovered: string;
  /** What may explain a difference, most likely first; empty when there is none. */
  readonly findings: readonly string[];
}

/** Ties both sides together. Pure: both facts are given, each of one instant. */
export function explainUsage(
  tenant: string,
  period: number,
  facts: LedgerFacts,
  log: LogFacts,
): Explanation {
  const pending = pendingUses(tenant, period, facts.cursor, log);
  const pendingSum = sum(pending.map((use) => use.tokens));
  const booked = BigInt(facts.ledger.logUsed);
  const setAside = BigInt(facts.quarantined.tokens);
  const difference =
    log.counter === null ? null : BigInt(log.counter) - booked - pendingSum - setAside;
  return {
    identity: {
      recorded: log.counter,
      booked: String(booked),
      pending: String(pendingSum),
      quarantined: String(setAside),
      difference: difference === null ? null : String(difference),
    },
    pending: {
      tokens: String(pendingSum),
      entries: pending.length,
      isWhole: log.isWhole,
      rows: pending.slice(0, LISTED_MAX),
    },
    knownLost: String(sum(facts.gaps.map((gap) => gap.lost))),
    recovered: String(sum(facts.gaps.map((gap) => gap.recovered))),
    findings: findingsOf(facts, log, difference),
  };
}

/** After the cursor; a log of another lineage was not read yet at all, so everything in it counts. */
function pendingUses(
  tenant: string,
  period: number,
  cursor: Cursor | null,
  log: LogFacts,
): PendingUse[] {
  const isSameLog = cursor !== null && cursor.inc === log.inc;
  const from = isSameLog ? BigInt(cursor.n) : 0n;
  const rows = log.rows.filter((row) => BigInt(row.n) > from);
  const start = { n: String(from), cum: null, count: null, anchor: null };
  return rows.flatMap((row) =>
    decodeEntries([row], start)
      .uses.filter((use) => use.tenant === tenant && use.period === period)
      .map(({ uid, tokens, model }) => ({ n: row.n, uid, tokens, model })),
  );
}

function findingsOf(facts: LedgerFacts, log: LogFacts, difference: bigint | null): string[] {
  const findings: string[] = [];
  if (facts.total.tokens !== facts.ledger.billed) findings.push("total_edited_outside_ledger");
  if (!log.isWhole) findings.push("pending_not_read_to_the_end");
  if (facts.cursor !== null && facts.cursor.inc !== log.inc) findings.push("lineage_changed");
  if (log.counter === null) {
    if (facts.ledger.logUsed !== "0") findings.push("redis_key_missing");
    return findings;
  }
  if (difference === null || difference === 0n) return findings;
  const openGap = sum(facts.gaps.map((gap) => String(BigInt(gap.lost) - BigInt(gap.recovered))));
  if (openGap !== 0n) findings.push("entries_lost_before_apply");
  findings.push(difference > 0n ? "redis_ahead" : "redis_behind");
  return findings;
}

const sum = (amounts: readonly string[]): bigint =>
  amounts.reduce((total, amount) => total + BigInt(amount), 0n);
