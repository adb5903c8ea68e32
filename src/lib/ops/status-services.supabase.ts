import { tmpdir } from "node:os";
import type { Clock } from "../kernel/clock.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { CachedHealth } from "./cached-health.ts";
import { type JobStatuses, statusReader } from "./status.ts";
import { fleet } from "./status-fleet.supabase.ts";
import { heartbeat } from "./status-fleet.ts";
import { systemReader } from "./status-system.ts";

/** What `/status` needs, and what says that this instance runs. */
export function statusServices(options: {
  readonly rpc: Rpc;
  readonly clock: Clock;
  readonly health: CachedHealth;
  readonly jobStatuses: JobStatuses;
  /** Id of this process. */
  readonly instance: string;
}) {
  const { rpc, clock, health, jobStatuses, instance } = options;
  const copies = fleet(rpc);
  const system = systemReader(tmpdir());
  return {
    heartbeat: heartbeat(instance, clock, copies),
    status: statusReader({ clock, health, fleet: copies, systemReader: system, jobStatuses }),
  };
}
