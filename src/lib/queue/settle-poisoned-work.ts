import type { Run } from "../kernel/run.ts";
import type { BoundWork } from "./bind-work.ts";
import { bookDelivery, type RunWorkDeps } from "./run-work.ts";
import type { Delivery } from "./work-message.ts";

/**
 * Takes what the platform gave up on out of a poison queue and into our books. The item of one of our own messages is
 * there already, and the sweeper sends it again; another producer's becomes an item, or a dead letter when nobody
 * understands it. Safe to run twice.
 */
export async function settlePoisonedWork<S>(
  deps: Pick<RunWorkDeps, "workBooks">,
  work: BoundWork<S>,
  delivery: Delivery,
  run: Run,
): Promise<void> {
  const itemId = await bookDelivery(deps, work, delivery, run);
  if (itemId !== undefined) run.log.warn("work_message_poisoned", { itemId, kind: work.spec.kind });
}
