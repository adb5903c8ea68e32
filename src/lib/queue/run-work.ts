import { untilAborted } from "../kernel/deadline.ts";
import { AppError, type Failure, toFailure } from "../kernel/errors.ts";
import { retry } from "../kernel/retry.ts";
import type { Run } from "../kernel/run.ts";
import type { BoundWork } from "./bind-work.ts";
import { type HeldClaim, type HoldDeps, holdClaim } from "./hold-claim.ts";
import { describe, readDelivery } from "./read-delivery.ts";
import { toStorable } from "./storable-json.ts";
import { type SettleDeps, tellFeature } from "./tell-feature.ts";
import type { WorkResult } from "./work.ts";
import { type Delivery, evidenceOf, sourceOf } from "./work-message.ts";
import type {
  ClaimedItem,
  EndedItem,
  Settled,
  Settlement,
  WorkBooks,
  WorkClaims,
  WorkSender,
} from "./work-ports.ts";

export interface RunWorkDeps extends HoldDeps, SettleDeps {
  readonly workBooks: WorkBooks;
  readonly workClaims: WorkClaims;
  readonly workSender: WorkSender;
  /** Runs that shutdown waits for. */
  readonly workUnderWay: Set<Promise<unknown>>;
}

/**
 * Works on the item of one message: claims it under a lease, runs its handler, stores what became of it. Returning
 * acknowledges the message, whose work is then in the books; anything that keeps it out of them is thrown. Safe to run
 * twice: the claim is the key, and a second delivery finds the item taken, over or not due.
 */
export async function runWork<S extends RunWorkDeps>(
  deps: S,
  work: BoundWork<S>,
  delivery: Delivery,
  run: Run,
): Promise<void> {
  const ending = workOn(deps, work, delivery, run);
  deps.workUnderWay.add(ending);
  try {
    await ending;
  } finally {
    deps.workUnderWay.delete(ending);
  }
}

async function workOn<S extends RunWorkDeps>(
  deps: S,
  work: BoundWork<S>,
  delivery: Delivery,
  run: Run,
): Promise<void> {
  const id = await bookDelivery(deps, work, delivery, run);
  if (id === undefined) return;
  const { kind } = work.spec;
  run.note({ itemId: id });
  const claim = await deps.workClaims.claim(id, kind, run.signal);
  run.note({ claim: claim.outcome });
  switch (claim.outcome) {
    case "claimed":
      return attempt(deps, work, claim.item, run);
    case "unknown":
      return bookUnknownItem(deps, work, delivery, run);
    case "not_due":
    case "alone": {
      const { delayMs, priority } = claim;
      await deps.workSender.send([{ id, kind, priority, delayMs }], run.signal);
      return;
    }
    case "ended":
      noteQuarantine(claim.item, run);
      await tellFeature(deps, work, [claim.item], run);
      await deps.workSender.send(claim.send, run.signal);
      return;
    case "gone":
    case "busy":
    case "throttled":
      return;
  }
}

function noteQuarantine({ id, kind, code }: EndedItem, run: Run): void {
  if (code === "work_poison") run.log.error("work_item_quarantined", { itemId: id, kind });
}

/** The id of the message's item, made of it when another producer sent it; undefined when it is a dead letter now. */
export async function bookDelivery<S>(
  deps: Pick<RunWorkDeps, "workBooks">,
  { spec }: Pick<BoundWork<S>, "spec">,
  delivery: Delivery,
  run: Run,
): Promise<string | undefined> {
  const read = readDelivery(spec, delivery.raw);
  const { priority } = delivery;
  if (read.kind === "item") return read.id;
  if (read.kind === "refused") {
    await reject(deps, spec.kind, delivery, read, run);
    return undefined;
  }
  const { version, payload, tenant, dedupeKey } = read;
  const { kind, maxAttempts } = spec;
  const facts = { requestedBy: "message", dedupeKey, source: sourceOf(delivery) };
  const item = { kind, version, payload, tenant, priority, maxAttempts, ...facts };
  const { items } = await deps.workBooks.enqueue([item], true, run.signal);
  const [accepted] = items;
  run.note({ adopted: accepted?.isDuplicate === false });
  return accepted?.id;
}

interface Refusal {
  readonly code: string;
  readonly error: string;
}

/** Tenant of what has none. */
const NO_TENANT = "-";

async function reject(
  { workBooks }: Pick<RunWorkDeps, "workBooks">,
  kind: string,
  delivery: Delivery,
  { code, error }: Refusal,
  run: Run,
): Promise<void> {
  const { priority } = delivery;
  const facts = { source: sourceOf(delivery), code, error, evidence: evidenceOf(delivery) };
  const rejection = { kind, version: 0, tenant: NO_TENANT, priority, ...facts };
  const { id, isDuplicate } = await workBooks.reject(rejection, run.signal);
  run.note({ rejected: code });
  if (!isDuplicate) run.log.error("work_message_rejected", { itemId: id, kind, code });
}

/** Such as after a database was restored to an earlier state. */
const bookUnknownItem = <S>(
  deps: RunWorkDeps,
  { spec }: Pick<BoundWork<S>, "spec">,
  delivery: Delivery,
  run: Run,
): Promise<void> => {
  const error = "the message names an item that is not in the books";
  return reject(deps, spec.kind, delivery, { code: "work_item_unknown", error }, run);
};

async function attempt<S extends RunWorkDeps>(
  deps: S,
  work: BoundWork<S>,
  item: ClaimedItem,
  run: Run,
): Promise<void> {
  const held = holdClaim(deps, work.spec, item, run);
  let settlement: Settlement;
  try {
    settlement = await handle(deps, work, item, held, run);
  } finally {
    held.release();
  }
  const settled = await settleForSure(deps, work, item, settlement);
  run.note({ attempt: item.attempt, outcome: settled.status === "ok" ? settled.state : "stale" });
  if (settled.status === "stale") {
    run.log.warn("work_write_stale", { itemId: item.id, fence: item.fence });
    return;
  }
  await followUp(deps, work, item, settlement, settled, run);
}

async function handle<S extends RunWorkDeps>(
  deps: S,
  work: BoundWork<S>,
  item: ClaimedItem,
  held: HeldClaim,
  run: Run,
): Promise<Settlement> {
  const { id: itemId, tenant, priority, attempt: number, fence, version, payload } = item;
  const { signal, progress } = held;
  const facts = { itemId, tenant, priority, attempt: number, fence };
  const workRun = { ...run, signal, progress, ...facts };
  try {
    const working = work.handle(deps, version, payload, workRun);
    return succeeded(await orStop(working, signal));
  } catch (error) {
    return failed(held.stopReason() ?? error, error, run);
  }
}

/** How long a handler may tidy up after its signal aborted. */
const GRACE_MS = 2000;

/** Does not wait for ever for a handler that ignores its signal; what it does later is fenced. */
async function orStop(working: Promise<WorkResult>, signal: AbortSignal): Promise<WorkResult> {
  working.catch(() => {});
  try {
    return await untilAborted(working, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
    return await untilAborted(working, AbortSignal.timeout(GRACE_MS));
  }
}

const RESULT_BYTES_MAX = 16 * 1024;

const succeeded = (result: WorkResult): Settlement => ({
  outcome: "succeeded",
  result: toStorable(result, RESULT_BYTES_MAX),
});

/** A stop has the last word about what a failed handler means: nobody fails because it was told to stop. */
function failed(thrown: unknown, original: unknown, run: Run): Settlement {
  const failure = toFailure(thrown);
  if (failure.code === "work_cancelled") return { outcome: "cancelled" };
  if (failure.code === "work_stopping") return { outcome: "released" };
  run.log.warn("work_attempt_failed", { kind: failure.kind, code: failure.code, error: original });
  const outcome = failure.kind === "transient" ? "transient" : "permanent";
  const delayMs = Number(failure.details["retryAfterMs"] ?? 0);
  const error = textOf(failure);
  return { outcome, code: failure.code, error, delayMs, evidence: evidenceOfFailure(failure) };
}

const ERROR_CHARACTERS_MAX = 500;

/** Texts of ours hold no content; those of foreign errors might. */
const textOf = ({ error, code }: Failure): string =>
  (error instanceof AppError ? describe(error) : `${code}: ${error.name}`)
    .replaceAll("\0", "")
    .slice(0, ERROR_CHARACTERS_MAX)
    .toWellFormed();

const evidenceOfFailure = ({ kind, details }: Failure) =>
  toStorable({ kind, details }, RESULT_BYTES_MAX);

const SETTLE_ATTEMPTS = 5;
const SETTLE_TIMEOUT_MS = 20_000;
const SETTLE_BACKOFF = { baseMs: 200, capMs: 3000 };

/** With a time of its own: the work may have used up all of the run's. Losing this would do the work again. */
const settleForSure = <S extends RunWorkDeps>(
  { workClaims }: S,
  work: BoundWork<S>,
  item: ClaimedItem,
  settlement: Settlement,
): Promise<Settled> => {
  const signal = AbortSignal.timeout(SETTLE_TIMEOUT_MS);
  const hasSettle = work.settle !== undefined;
  return retry(() => workClaims.settle(item, settlement, hasSettle, signal), {
    attempts: SETTLE_ATTEMPTS,
    signal,
    ...SETTLE_BACKOFF,
  });
};

async function followUp<S extends RunWorkDeps>(
  deps: S,
  work: BoundWork<S>,
  item: ClaimedItem,
  { code = "work_cancelled" }: Settlement,
  { state, priority, delayMs, send }: Extract<Settled, { status: "ok" }>,
  run: Run,
): Promise<void> {
  const { id, kind } = item;
  const own = delayMs === undefined ? [] : [{ id, kind, priority, delayMs }];
  const signal = AbortSignal.timeout(SETTLE_TIMEOUT_MS);
  await deps.workSender.send([...own, ...send], signal);
  if (state === "dead" || state === "cancelled") {
    await tellFeature(deps, work, [{ ...item, state, code }], { ...run, signal });
  }
}
