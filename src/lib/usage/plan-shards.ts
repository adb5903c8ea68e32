import type { Cursor } from "./plan-step.ts";

/** The head of one shard's log; `inc` '' = nothing in Redis. */
export interface ShardHead {
  readonly shard: number;
  readonly inc: string;
  readonly n: string;
  readonly cum: string;
  readonly count: string;
}

export interface ShardCursor extends Omit<Cursor, "anchor"> {
  readonly shard: number;
  /** Newest entry that was booked long enough ago to be trimmed, and is not yet. */
  readonly trim: string | null;
}

export interface PlannedShard {
  readonly shard: number;
  /** Entries not yet booked, as far as the head tells; an estimate after a rewind. */
  readonly pending: number;
}

/**
 * The shards that have work: something new, another lineage, a rewind, or entries to trim. An idle shard costs one
 * row of two bulk reads and no message.
 */
export function planShards(
  heads: readonly ShardHead[],
  cursors: readonly ShardCursor[],
): PlannedShard[] {
  const known = new Map(cursors.map((cursor) => [cursor.shard, cursor]));
  return heads.flatMap((head) => {
    const cursor = known.get(head.shard);
    return hasWork(head, cursor) ? [{ shard: head.shard, pending: pendingOf(head, cursor) }] : [];
  });
}

function hasWork(head: ShardHead, cursor: ShardCursor | undefined): boolean {
  if (cursor === undefined || cursor.inc === "") return head.inc !== "";
  if (cursor.trim !== null) return true;
  const isSameHead = head.inc === cursor.inc && head.n === cursor.n;
  return !isSameHead || (cursor.cum !== null && head.cum !== cursor.cum);
}

function pendingOf(head: ShardHead, cursor: ShardCursor | undefined): number {
  if (head.inc === "") return 0;
  const from = cursor !== undefined && cursor.inc === head.inc ? BigInt(cursor.n) : 0n;
  const pending = BigInt(head.n) - from;
  return pending > 0n ? Number(pending) : 0;
}
