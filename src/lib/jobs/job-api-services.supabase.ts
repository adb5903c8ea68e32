import type { Clock } from "../kernel/clock.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { JobSpec } from "./job.ts";
import { jobReads } from "./job-reads.supabase.ts";
import { jobStatuses } from "./job-statuses.ts";
import { catalogOf } from "./job-view.ts";

/** What the management API and the status need of scheduled jobs. */
export function jobApiServices<Setting extends string>(options: {
  readonly rpc: Rpc;
  readonly clock: Clock;
  readonly specs: readonly JobSpec<Setting>[];
  readonly schedules: Readonly<Record<Setting, string>>;
}) {
  const catalog = catalogOf(options.specs, options.schedules);
  const reads = jobReads(options.rpc);
  return {
    jobCatalog: catalog,
    jobReads: reads,
    jobStatuses: jobStatuses(catalog, reads, options.clock),
  };
}
