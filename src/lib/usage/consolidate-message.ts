import { z } from "zod";
import { ShardMessageSchema } from "./shard-message.ts";

/** "Compare the counters of this shard." Unknown fields are ignored, as in the messages of the reconciliation. */
export const ConsolidationMessageSchema = ShardMessageSchema.extend({
  job: z.literal("weekly_consolidation"),
  /** False = a dry run: write down what differs and change nothing. */
  apply: z.boolean().default(true),
  /** How often the shard was too busy in this run. */
  busy: z.int().min(0).max(1000).default(0),
});

export type ConsolidationMessage = z.infer<typeof ConsolidationMessageSchema>;
