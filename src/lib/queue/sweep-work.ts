import type { Run } from "../kernel/run.ts";
import type { BoundWork } from "./bind-work.ts";
import { type SettleDeps, tellFeature } from "./tell-feature.ts";
import type { WorkSender, WorkSweeps } from "./work-ports.ts";

export interface SweepDeps extends SettleDeps {
  readonly workSweeps: WorkSweeps;
  readonly workSender: WorkSender;
}

/** Calls of one kind in one sweep; what is left is for the next one, a minute later. */
const ROUNDS_MAX = 20;

/**
 * Keeps items going that nobody else would: takes them from workers that vanished, sends messages again that were lost,
 * lets waiting tenants in, tells features what ended. Safe to run twice, also at the same time.
 */
export async function sweepWork<S extends SweepDeps>(
  deps: S,
  works: readonly BoundWork<S>[],
  run: Run,
): Promise<Readonly<Record<string, number>>> {
  const recovered = await sweepExpired(deps, works, run);
  const lost = await sweepLost(deps, run);
  const letIn = await sweepWaiting(deps, run);
  const told = await sweepUnsettled(deps, works, run);
  const counts = { recovered, resent: lost, letIn, told };
  run.note(counts);
  if (recovered > 0) run.log.warn("work_leases_expired", { items: recovered });
  return counts;
}

async function sweepExpired<S extends SweepDeps>(
  { workSweeps }: S,
  works: readonly BoundWork<S>[],
  run: Run,
): Promise<number> {
  let total = 0;
  for (const { spec } of works) {
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      const { recovered } = await workSweeps.expired(spec.kind, run.signal);
      total += recovered;
      if (recovered === 0) break;
    }
  }
  return total;
}

async function sweepLost({ workSweeps, workSender }: SweepDeps, run: Run): Promise<number> {
  let total = 0;
  for (let round = 0; round < ROUNDS_MAX; round += 1) {
    const wakeups = await workSweeps.lost(run.signal);
    if (wakeups.length === 0) break;
    await workSender.send(wakeups, run.signal);
    total += wakeups.length;
  }
  return total;
}

async function sweepWaiting({ workSweeps, workSender }: SweepDeps, run: Run): Promise<number> {
  let total = 0;
  let after: readonly string[] | undefined;
  for (let round = 0; round < ROUNDS_MAX; round += 1) {
    const { send, next } = await workSweeps.waiting(after, run.signal);
    await workSender.send(send, run.signal);
    total += send.length;
    after = next;
    if (after === undefined) break;
  }
  return total;
}

async function sweepUnsettled<S extends SweepDeps>(
  deps: S,
  works: readonly BoundWork<S>[],
  run: Run,
): Promise<number> {
  let total = 0;
  for (let round = 0; round < ROUNDS_MAX; round += 1) {
    const items = await deps.workSweeps.unsettled(run.signal);
    if (items.length === 0) break;
    for (const item of items) {
      const work = works.find(({ spec }) => spec.kind === item.kind);
      await tellFeature(deps, work, [item], run);
    }
    total += items.length;
  }
  return total;
}
