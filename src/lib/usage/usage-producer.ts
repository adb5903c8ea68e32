import type { Clock } from "../kernel/clock.ts";
import { systemClock } from "../kernel/clock.ts";
import { untilAborted } from "../kernel/deadline.ts";
import { AppError, permanent, transient } from "../kernel/errors.ts";
import type { RedisDriver, RedisReply, ScriptCall } from "../kernel/redis.ts";
import { retry } from "../kernel/retry.ts";
import { RECORD_USAGE } from "./record-usage.lua.ts";
import {
  counterExpiryOf,
  DEDUPE_TTL_SECONDS,
  dedupeBucketOf,
  eventIdOf,
  keysOf,
  newLineage,
  periodOf,
  shardOf,
} from "./usage-keys.ts";
import { packDimensions, type UsageRecord } from "./usage-record.ts";

/** Never quote an acknowledgement so old that the worker may have trimmed its entry. */
const QUOTE_MAX_MS = 3_600_000;
const RING_MS = 10_000;
const RING_RECORDS_MAX = 5000;
const VERIFY_MS = 1000;
/** Every retry is safe: the same ids and times go out again, and whatever was counted answers "duplicate". */
const RETRY = { attempts: 4, baseMs: 50, capMs: 1000 } as const;
/** ARGV[9] of the script. */
const QUOTED_INC_ARG = 8;

export interface ProducerOptions {
  readonly redis: Pick<RedisDriver, "kind" | "scripts">;
  readonly clock?: Clock;
  /** False refuses every record with `usage_tracking_disabled`. */
  readonly isEnabled?: boolean;
  /** How long own records are kept for a replay; longer than the longest failover that can lose writes. */
  readonly ringMs?: number;
  readonly ringMax?: number;
  /** How often the last acknowledged record of a shard is checked to be still there. */
  readonly verifyMs?: number;
}

export interface RecordedUse {
  readonly outcome: "recorded" | "duplicate";
  /** What the tenant has used in this period, for quota checks. A decimal string: it may exceed 2^53. */
  readonly tenantTotal: string;
  /** Number of the last entry of the shard's log. */
  readonly n: string;
  /** Redis lost something it had acknowledged; the recent records of the shard were replayed. */
  readonly hasReplayed: boolean;
}

export interface UsageProducer {
  /**
   * Records one use in one round trip. Safe to retry with the same `requestId` and `occurredAt`, also days later.
   *
   * @throws AppError `redis_unavailable` after a few attempts (nothing is known: keep the record, send the same one
   *   again later), `usage_record_refused`, `usage_tracking_disabled`
   */
  record(record: UsageRecord, signal: AbortSignal): Promise<RecordedUse>;
  /** Several records in one round trip; an error stands at the place of the record it belongs to. */
  recordAll(
    records: readonly UsageRecord[],
    signal: AbortSignal,
  ): Promise<readonly (RecordedUse | AppError)[]>;
}

interface Acknowledged {
  readonly inc: string;
  readonly n: string;
  readonly cum: string;
  /** Of the entry `n`; '' when that entry is no use. */
  readonly anchor: string;
  readonly at: number;
}

interface Reply extends Acknowledged {
  readonly status: number;
  readonly total: string;
  /** The lineage this call quoted: the one that was lost when the status says so. */
  readonly quotedInc: string;
}

/**
 * A producer holds the last acknowledgement of each shard and a ring of its own recent records: with them the script
 * notices in the same call that Redis lost something, and the replay heals it. One per process.
 */
export function createUsageProducer(options: ProducerOptions): UsageProducer {
  const clock = options.clock ?? systemClock;
  const isEnabled = options.isEnabled ?? true;
  const verifyMs = options.verifyMs ?? VERIFY_MS;
  const ring = createRing(options.ringMs ?? RING_MS, options.ringMax ?? RING_RECORDS_MAX);
  const acknowledged = new Map<number, Acknowledged>();
  const verifiedAt = new Map<number, number>();

  const callOf = (record: UsageRecord, replayOf: string): ScriptCall => {
    const shard = shardOf(record.tenant);
    const now = clock.now();
    const known = acknowledged.get(shard);
    const last = known !== undefined && now - known.at <= QUOTE_MAX_MS ? known : undefined;
    const isDue = last !== undefined && now - (verifiedAt.get(shard) ?? 0) >= verifyMs;
    if (isDue) verifiedAt.set(shard, now);
    return scriptCall(record, shard, now, replayOf, last, isDue);
  };

  const send = async (
    records: readonly UsageRecord[],
    replayOf: string,
    signal: AbortSignal,
  ): Promise<readonly (Reply | AppError)[]> => {
    const calls = records.map((record) => callOf(record, replayOf));
    const replies = await retry(() => options.redis.scripts(calls, signal), { ...RETRY, signal });
    return records.map((record, index) => {
      const quotedInc = calls[index]?.args[QUOTED_INC_ARG] ?? "";
      const reply = parseReply(replies[index] ?? null, quotedInc, clock.now());
      if (!(reply instanceof AppError)) remember(shardOf(record.tenant), reply);
      return reply;
    });
  };

  const remember = (shard: number, { inc, n, cum, anchor, at }: Reply): void => {
    const known = acknowledged.get(shard);
    const isNewer = known === undefined || known.inc !== inc || BigInt(n) > BigInt(known.n);
    if (isNewer) acknowledged.set(shard, { inc, n, cum, anchor, at });
  };

  /** Replays are idempotent: whatever survived answers "duplicate". */
  const replay = async (
    shards: ReadonlyMap<number, string>,
    signal: AbortSignal,
  ): Promise<void> => {
    for (const [shard, lostLineage] of shards) {
      await send(ring.ofShard(shard, clock.now()), lostLineage, signal);
    }
  };

  const recordAll: UsageProducer["recordAll"] = async (records, signal) => {
    if (!isEnabled) throw permanent("usage_tracking_disabled", { records: records.length });
    const replies = await send(records, "", signal);
    const lost = new Map<number, string>();
    for (const [index, record] of records.entries()) {
      const reply = replies[index];
      if (reply === undefined || reply instanceof AppError) continue;
      const shard = shardOf(record.tenant);
      ring.add(shard, record, clock.now());
      if (reply.status >= 2) lost.set(shard, reply.quotedInc);
    }
    await replay(lost, signal);
    return replies.map((reply) => (reply instanceof AppError ? reply : toRecorded(reply)));
  };

  return { record: shareRoundTrips(recordAll, SHARED_MAX[options.redis.kind]), recordAll };
}

function scriptCall(
  record: UsageRecord,
  shard: number,
  now: number,
  replayOf: string,
  last: Acknowledged | undefined,
  isVerified: boolean,
): ScriptCall {
  const keys = keysOf(shard);
  const period = periodOf(record.occurredAt);
  const bucket = dedupeBucketOf(record.occurredAt);
  return {
    script: RECORD_USAGE,
    keys: [keys.meta, keys.log, keys.counter(period), keys.dedupe(bucket), keys.dedupe(bucket - 1)],
    args: [
      eventIdOf(record.tenant, record.requestId),
      record.tenant,
      String(record.tokens),
      String(period),
      String(record.occurredAt),
      String(counterExpiryOf(period, now)),
      String(DEDUPE_TTL_SECONDS),
      newLineage(),
      last?.inc ?? "",
      last?.n ?? "0",
      isVerified ? (last?.cum ?? "") : "",
      replayOf,
      last?.cum ?? "0",
      packDimensions(record),
      last?.anchor ?? "",
    ],
  };
}

function parseReply(reply: RedisReply | AppError, quotedInc: string, at: number): Reply | AppError {
  if (reply instanceof AppError) return asRecordError(reply);
  const parts = Array.isArray(reply) ? (reply as readonly RedisReply[]) : [];
  const [status, total, n, cum, inc, anchor] = parts;
  const isWhole = [total, n, cum, inc, anchor].every((part) => typeof part === "string");
  if (!isWhole)
    return new AppError("bug", "redis_reply_unexpected", { details: { script: "record-usage" } });
  return {
    status: Number(status),
    total: String(total),
    n: String(n),
    cum: String(cum),
    inc: String(inc),
    anchor: String(anchor),
    quotedInc,
    at,
  };
}

/** The script refuses amounts with EUSAGE: the caller's doing, not Redis'. */
function asRecordError(error: AppError): AppError {
  if (error.details["code"] === "EUSAGE") return permanent("usage_record_refused", {}, error);
  return error.kind === "transient" ? transient(error.code, error.details, error) : error;
}

const toRecorded = ({ status, total, n }: Reply): RecordedUse => ({
  outcome: status === 0 || status === 3 ? "duplicate" : "recorded",
  tenantTotal: total,
  n,
  hasReplayed: status >= 2,
});

type RecordAll = UsageProducer["recordAll"];

interface Waiting {
  readonly record: UsageRecord;
  readonly resolve: (outcome: RecordedUse | AppError) => void;
  readonly reject: (error: unknown) => void;
}

/** A caller that gives up must not take the round trip of the others with it; the driver's own deadline ends it. */
const OF_ALL = new AbortController().signal;

/**
 * How many records share a round trip. On a socket several small ones let Redis work on one while we prepare the
 * next: twice the rate of a single large one. An HTTP request costs more than it carries, so there they all go in one.
 */
const SHARED_MAX: Readonly<Record<RedisDriver["kind"], number>> = { ioredis: 16, upstash: 500 };

/** Calls of one tick travel together: under load a round trip carries many records, without load just the one. */
function shareRoundTrips(recordAll: RecordAll, sharedMax: number): UsageProducer["record"] {
  let waiting: Waiting[] = [];
  const flush = (): void => {
    const due = waiting;
    waiting = [];
    for (let from = 0; from < due.length; from += sharedMax)
      send(due.slice(from, from + sharedMax));
  };
  const send = (batch: readonly Waiting[]): void => {
    recordAll(
      batch.map(({ record }) => record),
      OF_ALL,
    ).then(
      (outcomes) => {
        for (const [i, { resolve }] of batch.entries()) resolve(outcomes[i] ?? unanswered());
      },
      (error) => {
        for (const { reject } of batch) reject(error);
      },
    );
  };
  return async (record, signal) => {
    const outcome = await untilAborted(
      new Promise<RecordedUse | AppError>((resolve, reject) => {
        if (waiting.push({ record, resolve, reject }) === 1) queueMicrotask(flush);
      }),
      signal,
    );
    if (outcome instanceof AppError) throw outcome;
    return outcome;
  };
}

const unanswered = (): AppError =>
  new AppError("bug", "redis_reply_unexpected", { details: { script: RECORD_USAGE.name } });

interface Ring {
  add(shard: number, record: UsageRecord, at: number): void;
  ofShard(shard: number, now: number): UsageRecord[];
}

function createRing(keptMs: number, max: number): Ring {
  let items: { shard: number; record: UsageRecord; at: number }[] = [];
  return {
    add(shard, record, at) {
      items.push({ shard, record, at });
      // Cut in large steps: a shift for every record would cost more than the record.
      if (items.length > 2 * max) items = items.slice(-max);
    },
    ofShard(shard, now) {
      items = items.slice(-max).filter((item) => now - item.at <= keptMs);
      return items.filter((item) => item.shard === shard).map((item) => item.record);
    },
  };
}
