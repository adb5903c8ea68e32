import { z } from "zod";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { Probes } from "./probe-backends.ts";

const SchedulerRow = z.object({
  installedAt: z.string().transform(Date.parse),
  lastStartedAt: z.string().transform(Date.parse).nullable(),
});

export const databaseProbe = (rpc: Rpc): Pick<Probes, "database" | "scheduler"> => ({
  database: async (signal) => {
    await rpc("ping", {}, signal);
  },
  scheduler: async (signal) =>
    SchedulerRow.parse(
      await rpc("usage_read_scheduler", { p_job: "daily_reconciliation" }, signal),
    ),
});
