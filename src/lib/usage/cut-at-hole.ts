import { type DecodedBatch, decodeEntries, type LogPosition, type LogRow } from "./log-entry.ts";

export interface CutBatch {
  readonly batch: DecodedBatch;
  /** False when it ends before a hole and there are more rows. */
  readonly isWhole: boolean;
}

/**
 * Decodes rows up to the first hole: the entries after it say by their running number that others stood before them. A
 * hole at the start does not count, so that it begins a batch. A hole is then always found by the entry before it,
 * however the log was cut into batches when it was first read, and a log that is read again reports it once.
 *
 * Nothing is a hole before anything was counted: the first batch of a lineage is not compared, because what its log lost
 * is told by the rewind markers in it.
 */
export function decodeUpToHole(rows: readonly LogRow[], from: LogPosition): CutBatch {
  const batch = decodeEntries(rows, from);
  const isLossless =
    from.count === null || !isAhead(batch.end, Number(from.count) + carriedOf(batch));
  const hole = isLossless ? undefined : findHole(rows, from);
  if (hole === undefined) return { batch, isWhole: true };
  return { batch: decodeEntries(rows.slice(0, hole), from), isWhole: false };
}

/** Position of the first entry behind a hole, not counting the first of all. */
function findHole(rows: readonly LogRow[], from: LogPosition): number | undefined {
  let end = from;
  let known = Number(from.count);
  for (const [i, row] of rows.entries()) {
    const one = decodeEntries([row], end);
    end = one.end;
    if (i > 0 && isAhead(end, known + carriedOf(one))) return i;
    // A foreign copy of an old entry counts backwards, and what follows it is no hole.
    if (end.count !== null) known = Math.max(known, Number(end.count));
  }
  return undefined;
}

/** Running numbers beyond 2^53 are not ours, and decide nothing. */
const isAhead = ({ count }: LogPosition, expected: number): boolean =>
  count !== null && Number.isSafeInteger(Number(count)) && Number(count) > expected;

const carriedOf = ({ uses, bad }: DecodedBatch): number =>
  uses.length + bad.filter(({ tokens }) => tokens !== null).length;
