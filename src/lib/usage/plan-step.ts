import { decodeUpToHole } from "./cut-at-hole.ts";
import { anchorOf, type DecodedBatch, type LogPosition, type LogRow } from "./log-entry.ts";

/** The only cursor of a shard; it lives in Postgres, next to the effect. `inc` '' = the shard was never read. */
export interface Cursor extends LogPosition {
  readonly inc: string;
}

/** The head of a log and the entries from the cursor on, read in one instant. The first row may be the anchor. */
export interface LogRead {
  /** Lineage, or '' when Redis has none. */
  readonly inc: string;
  readonly n: string;
  readonly cum: string;
  readonly count: string;
  readonly rows: readonly LogRow[];
}

/** The end of a log at one instant, which a drain shall reach exactly and not pass. */
export interface Cut {
  readonly inc: string;
  /** Last entry of the log: that of the head, or a later one that a foreign writer appended. */
  readonly n: string;
  readonly headN: string;
  readonly cum: string;
  readonly count: string;
}

export type ForkCause =
  | "first"
  | "lineage_changed"
  | "redis_flushed"
  | "redis_rewound"
  | "anchor_mismatch";

/** What to do next with one shard. */
export type Step =
  | { readonly kind: "idle" }
  | { readonly kind: "fork"; readonly cause: ForkCause }
  | { readonly kind: "apply"; readonly batch: DecodedBatch; readonly isLast: boolean };

/**
 * Is this the log the cursor points into, and what comes next? A read starts AT the last booked entry: if it is not
 * the same entry any more, Redis was rewound or is another one.
 */
export function planStep(cursor: Cursor, read: LogRead, batchMax: number): Step {
  if (read.inc === "" && cursor.inc === "" && read.rows.length === 0) return { kind: "idle" };
  const first = read.rows[0];
  const anchor = BigInt(cursor.n) > 0n && first?.n === cursor.n ? first : undefined;
  const isDiverged = anchor !== undefined && !isSameEntry(anchor, cursor);
  const isBehind = BigInt(read.n) < BigInt(cursor.n) && (anchor === undefined || isDiverged);
  if (read.inc !== cursor.inc || isBehind) return { kind: "fork", cause: causeOf(cursor, read) };
  if (isDiverged) return { kind: "fork", cause: "anchor_mismatch" };
  // A foreign writer can append several entries under one number; those of the cursor were read with it.
  const start = read.rows.findIndex((row) => row.n !== cursor.n);
  const rows = start < 0 ? [] : read.rows.slice(start, start + batchMax);
  if (rows.length > 0) {
    const { batch, isWhole } = decodeUpToHole(rows, cursor);
    return { kind: "apply", batch, isLast: isWhole && read.rows.length <= batchMax };
  }
  return BigInt(read.n) > BigInt(cursor.n) ? catchUp(read) : { kind: "idle" };
}

/**
 * The read as it was at the instant of the cut, whatever was appended since. Undefined = the log is another one by
 * now, or it was rewound.
 */
export function cutOff(read: LogRead, cut: Cut): LogRead | undefined {
  if (read.inc !== cut.inc || BigInt(read.n) < BigInt(cut.headN)) return undefined;
  const { n, cum, count } = cut;
  return { ...read, n, cum, count };
}

/**
 * The head is further than the last entry: after a flush that nobody followed, or because entries were deleted. Moving
 * the cursor there keeps the shard from looking busy for ever, and shows by the sums what is missing.
 */
const catchUp = ({ n, cum, count }: LogRead): Step => ({
  kind: "apply",
  batch: { uses: [], bad: [], markers: [], end: { n, cum, count, anchor: null } },
  isLast: true,
});

function causeOf(cursor: Cursor, read: LogRead): ForkCause {
  if (cursor.inc === "") return "first";
  if (read.inc === "") return "redis_flushed";
  return read.inc === cursor.inc ? "redis_rewound" : "lineage_changed";
}

/** A cursor without an anchor ended on an entry that was no use; then the entry there must be none either. */
function isSameEntry(row: LogRow, cursor: Cursor): boolean {
  const there = anchorOf(row);
  if (cursor.anchor === null) return there === null;
  return there !== null && there.anchor === cursor.anchor && there.cum === cursor.cum;
}
