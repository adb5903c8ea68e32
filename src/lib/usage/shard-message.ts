import { z } from "zod";
import { SHARD_COUNT } from "./usage-keys.ts";

/** Messages of a run that is longer than this are not ours. */
const PARTS_MAX = 10_000;

/** "Look at this shard." Unknown fields are ignored: old and new code run together during a deployment. */
export const ShardMessageSchema = z.object({
  v: z.literal(1),
  job: z.literal("daily_reconciliation"),
  runId: z.uuid(),
  shard: z
    .int()
    .min(0)
    .max(SHARD_COUNT - 1),
  /** Which continuation of the shard in this run; starts at 0. */
  part: z.int().min(0).max(PARTS_MAX).default(0),
  /** W3C trace context of the run that planned it: queue messages carry none of their own. */
  traceparent: z.string().max(100).optional(),
});

export type ShardMessage = z.infer<typeof ShardMessageSchema>;
