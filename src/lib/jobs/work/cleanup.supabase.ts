import { z } from "zod";
import { AppError } from "../../kernel/errors.ts";
import type { Rpc } from "../../runtime/rpc.supabase.ts";
import type { RowCleaner } from "./cleanup.ts";

const Count = z.int().min(0);

export const rowCleaner = (rpc: Rpc): RowCleaner => ({
  deleteBatch: async ({ what, before, keep, limit, runId, fence }, signal) => {
    const args = {
      p_what: what,
      p_before: new Date(before).toISOString(),
      p_keep: keep,
      p_limit: limit,
      p_run: runId,
      p_fence: fence,
    };
    const reply = Count.safeParse(await rpc("cleanup_rows", args, signal));
    if (reply.success) return reply.data;
    throw new AppError("bug", "database_reply_unexpected", { details: { what: "cleanup" } });
  },
});
