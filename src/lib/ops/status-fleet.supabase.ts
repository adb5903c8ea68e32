import { z } from "zod";
import { AppError } from "../kernel/errors.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { Fleet } from "./status-fleet.ts";

const instant = z.string().transform(Date.parse);
const Row = z.object({
  now: instant,
  upSince: instant.nullable(),
  instances: z.array(
    z.object({ id: z.string(), startedAt: instant, seenAt: instant, memoryMb: z.number() }),
  ),
});

export const fleet = (rpc: Rpc): Fleet => ({
  seen: async ({ id, uptimeMs, memoryMb }, signal) => {
    const args = { p_id: id, p_uptime_ms: uptimeMs, p_memory_mb: memoryMb };
    await rpc("instance_seen", args, signal);
  },
  read: async (signal) => {
    const parsed = Row.safeParse(await rpc("instance_read", {}, signal));
    if (parsed.success) return parsed.data;
    const details = { what: "fleet" };
    throw new AppError("bug", "database_reply_unexpected", { details, cause: parsed.error });
  },
});
