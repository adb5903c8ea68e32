import { invariant } from "../kernel/errors.ts";

/** Days in UTC, `YYYY-MM-DD`. */
export type Day = string;

export type ExportSource =
  | { readonly kind: "events"; readonly day: Day }
  | { readonly kind: "ledger"; readonly week: Day; readonly after: string; readonly to: string }
  | { readonly kind: "totals"; readonly periods: readonly number[] }
  | { readonly kind: "runs"; readonly week: Day };

export interface PlannedFile {
  /** Without extension; unique in its export, and the same whenever the export goes on. */
  readonly name: string;
  readonly source: ExportSource;
}

export interface ExportRange {
  /** First day of the week. */
  readonly week: Day;
  /** Ledger rows that were booked in it: after < id <= to. */
  readonly ledgerAfter: string;
  readonly ledgerTo: string;
}

const DAY_MS = 86_400_000;
const DAYS = 7;
/** Transactions that began before midnight may still commit. */
const SETTLED_MS = 10 * 60_000;
/** So that a file is repeated in minutes when its writer dies. */
const LEDGER_ROWS_PER_FILE = 500_000n;
/** A week with more bookings is not ours. */
const LEDGER_FILES_MAX = 1000n;

/** The first day of the last week, Sunday to Saturday in UTC, that is over for good. */
export function lastWeek(now: number): Day {
  const today = Math.floor((now - SETTLED_MS) / DAY_MS);
  const sinceSunday = (today + 4) % DAYS; // day 0 was a Thursday
  return dayOf(today - sinceSunday - DAYS);
}

const dayOf = (day: number): Day => new Date(day * DAY_MS).toISOString().slice(0, 10);

/** The files of an export; small enough that one of them is all that a crash costs. */
export function planFiles({ week, ledgerAfter, ledgerTo }: ExportRange): readonly PlannedFile[] {
  const first = Date.parse(week) / DAY_MS;
  const days = Array.from({ length: DAYS }, (_, i) => dayOf(first + i));
  const periods = [...new Set(days.map((day) => Number(day.slice(0, 7).replace("-", ""))))];
  return [
    ...days.map(
      (day): PlannedFile => ({ name: `usage-events-${day}`, source: { kind: "events", day } }),
    ),
    ...ledgerFiles(week, BigInt(ledgerAfter), BigInt(ledgerTo)),
    { name: "usage-totals", source: { kind: "totals", periods } },
    { name: "job-runs", source: { kind: "runs", week } },
  ];
}

function ledgerFiles(week: Day, after: bigint, to: bigint): PlannedFile[] {
  const span = to > after ? to - after : 0n;
  const count = (span + LEDGER_ROWS_PER_FILE - 1n) / LEDGER_ROWS_PER_FILE;
  invariant(count <= LEDGER_FILES_MAX, "a week has a bounded number of ledger files");
  return Array.from({ length: Number(count) }, (_, i) => {
    const from = after + BigInt(i) * LEDGER_ROWS_PER_FILE;
    const end = from + LEDGER_ROWS_PER_FILE < to ? from + LEDGER_ROWS_PER_FILE : to;
    const source = { kind: "ledger", week, after: String(from), to: String(end) } as const;
    return { name: `usage-ledger-${String(i + 1).padStart(4, "0")}`, source };
  });
}
