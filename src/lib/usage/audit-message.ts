import { z } from "zod";
import { SHARD_COUNT } from "./usage-keys.ts";

/** Messages of an audit that is longer than this are not ours. */
const PARTS_MAX = 10_000;

/** "Go on with this audit." Unknown fields are ignored: old and new code run together during a deployment. */
export const AuditMessageSchema = z.object({
  v: z.literal(1),
  job: z.literal("monthly_audit"),
  auditId: z.uuid(),
  /** `prune`: the audit is done, old events are dropped. */
  phase: z.enum(["audit", "prune"]).default("audit"),
  /** Whether old events are dropped afterwards. */
  prunes: z.boolean().default(false),
  /** Where the audit stands, as far as the sender knew; the database knows better. */
  nextShard: z.int().min(0).max(65_536).default(0),
  /** Shards of the next call. */
  width: z.int().min(1).max(SHARD_COUNT).default(1),
  /** Which continuation; starts at 0. */
  part: z.int().min(0).max(PARTS_MAX).default(0),
});

export type AuditMessage = z.infer<typeof AuditMessageSchema>;
