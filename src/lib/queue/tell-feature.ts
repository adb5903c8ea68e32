import { toFailure } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import type { BoundWork } from "./bind-work.ts";
import type { EndedItem, WorkClaims } from "./work-ports.ts";

export interface SettleDeps {
  readonly workClaims: Pick<WorkClaims, "settled">;
}

/**
 * Tells the feature of items that they ended without success, and notes that it knows. One that cannot be told now is
 * told by the sweeper, which asks every 5 minutes. Idempotent, as the feature's part is.
 */
export async function tellFeature<S extends SettleDeps>(
  deps: S,
  work: Pick<BoundWork<S>, "settle" | "spec"> | undefined,
  items: readonly EndedItem[],
  run: Run,
): Promise<void> {
  const told: string[] = [];
  for (const item of items) if (await tell(deps, work, item, run)) told.push(item.id);
  if (told.length === 0) return;
  try {
    await deps.workClaims.settled(told, run.signal);
  } catch (error) {
    run.log.warn("work_settled_not_noted", { items: told.length, code: toFailure(error).code });
  }
}

async function tell<S>(
  deps: S,
  work: Pick<BoundWork<S>, "settle"> | undefined,
  { id, version, payload, state, code }: EndedItem,
  run: Run,
): Promise<boolean> {
  try {
    await work?.settle?.(deps, version, payload, { itemId: id, state, reason: code });
    return true;
  } catch (error) {
    const failure = toFailure(error);
    run.log.warn("work_feature_not_told", { itemId: id, code: failure.code });
    // What it cannot even read it will never be able to settle.
    return failure.code === "work_payload_invalid" || failure.code === "work_version_unknown";
  }
}
