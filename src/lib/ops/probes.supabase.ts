import { z } from "zod";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { Probes } from "./probe-backends.ts";

const SchedulerRow = z.object({
  installedAt: z.string().transform(Date.parse),
  jobs: z.array(z.object({ id: z.string(), since: z.string().transform(Date.parse) })),
});

export const databaseProbe = (rpc: Rpc): Pick<Probes, "database" | "scheduler"> => ({
  database: async (signal) => {
    await rpc("ping", {}, signal);
  },
  scheduler: async (signal) => {
    const row = SchedulerRow.parse(await rpc("job_read_scheduler", {}, signal));
    const writtenUntil = Object.fromEntries(row.jobs.map(({ id, since }) => [id, since]));
    return { installedAt: row.installedAt, writtenUntil };
  },
});
