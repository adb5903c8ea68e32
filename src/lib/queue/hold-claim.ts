import type { Clock } from "../kernel/clock.ts";
import { type AppError, permanent, toFailure, transient } from "../kernel/errors.ts";
import { every } from "../kernel/every.ts";
import type { Logger } from "../kernel/run.ts";
import { toStorable } from "./storable-json.ts";
import type { WorkSpec } from "./work.ts";
import type { ClaimedItem, WorkClaims } from "./work-ports.ts";

/** The lease of one claim while its handler works. */
export interface HeldClaim {
  /** Aborts on the timeout of the kind, a cancel, a lost lease, the end of the invocation and shutdown. */
  readonly signal: AbortSignal;
  /** Why it aborted. */
  stopReason(): AppError | undefined;
  progress(fields: Readonly<Record<string, unknown>>): void;
  /** No more heartbeats. */
  release(): void;
}

export interface HoldDeps {
  readonly clock: Clock;
  readonly workClaims: Pick<WorkClaims, "heartbeat">;
  /** Aborts when this process is about to end. */
  readonly stopping: AbortSignal;
}

/** A lease survives two heartbeats that get lost. */
const HEARTBEATS_PER_LEASE = 4;
const PROGRESS_BYTES_MAX = 4096;

export function holdClaim(
  deps: HoldDeps,
  spec: Pick<WorkSpec, "leaseMs" | "timeoutMs">,
  item: ClaimedItem,
  run: { readonly signal: AbortSignal; readonly log: Logger },
): HeldClaim {
  const controller = new AbortController();
  const stop = (reason: AppError) => controller.abort(reason);
  const undo = [
    forward(deps.stopping, () => stop(transient("work_stopping"))),
    forward(run.signal, stop),
    every(spec.timeoutMs, () => stop(transient("deadline_exceeded", { ms: spec.timeoutMs }))),
    every(spec.leaseMs / HEARTBEATS_PER_LEASE, () => void beat()),
  ];
  let renewedAt = deps.clock.now();
  let progress: unknown;
  let isBeating = false;

  async function beat(): Promise<void> {
    if (deps.clock.now() - renewedAt > spec.leaseMs) stop(transient("work_lease_lost"));
    if (isBeating) return;
    isBeating = true;
    const shown = progress;
    progress = undefined;
    try {
      const sentAt = deps.clock.now();
      const { signal } = controller;
      const { isHeld, isCancelled } = await deps.workClaims.heartbeat(item, shown, signal);
      renewedAt = sentAt;
      if (!isHeld) stop(transient("work_lease_lost"));
      else if (isCancelled) stop(permanent("work_cancelled"));
    } catch (error) {
      run.log.warn("work_heartbeat_failed", { itemId: item.id, code: toFailure(error).code });
    } finally {
      isBeating = false;
    }
  }

  return {
    signal: controller.signal,
    stopReason: () =>
      controller.signal.aborted ? (controller.signal.reason as AppError) : undefined,
    progress: (fields) => {
      progress = toStorable(fields, PROGRESS_BYTES_MAX);
    },
    release: () => {
      for (const end of undo) end();
    },
  };
}

/** Hands an abort on, with its reason as an AppError; returns what undoes it. */
function forward(signal: AbortSignal, abort: (reason: AppError) => void): () => void {
  const onAbort = () => abort(toAppError(signal.reason));
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  return () => signal.removeEventListener("abort", onAbort);
}

function toAppError(reason: unknown): AppError {
  const { error } = toFailure(reason);
  return error instanceof Error && "kind" in error
    ? (error as AppError)
    : transient("deadline_exceeded", {}, reason);
}
