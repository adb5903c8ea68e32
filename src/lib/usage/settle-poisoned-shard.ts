import { z } from "zod";
import type { Run } from "../kernel/run.ts";
import { ConsolidationMessageSchema } from "./consolidate-message.ts";
import type { ShardReports } from "./reconcile-shard.ts";
import { ShardMessageSchema } from "./shard-message.ts";

const Message = z.union([ShardMessageSchema, ConsolidationMessageSchema]);

export interface PoisonDeps {
  readonly shardReports: ShardReports;
}

/**
 * Takes what the platform gave up on out of the poison queue and into our books: the shard counts as failed in its
 * run. Nothing is lost with the message, because the cursor did not move: the next run plans the shard again. A
 * message that names no shard is logged with its length only; it asked for nothing we could do.
 */
export async function settlePoisonedShard(deps: PoisonDeps, raw: unknown, run: Run): Promise<void> {
  const parsed = Message.safeParse(raw);
  if (!parsed.success) {
    const characters = typeof raw === "string" ? raw.length : JSON.stringify(raw ?? null).length;
    run.log.error("usage_shard_message_unreadable", { characters });
    return;
  }
  const { runId, shard } = parsed.data;
  run.log.error("usage_shard_failed", { reconciliationRunId: runId, shard });
  const report = { runId, shard, state: "failed", errorCode: "message_poisoned" } as const;
  await deps.shardReports.report(report, run.signal);
}
