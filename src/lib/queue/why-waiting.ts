import type { WorkSpec } from "./work.ts";

export const WAIT_REASONS = [
  "ended",
  "kind_unknown",
  "running",
  "cancelling",
  "worker_lost",
  "not_due",
  "waiting_retry",
  "tenant_limit",
  "waiting_turn",
  "in_queue",
  "no_worker",
] as const;
export type WaitReason = (typeof WAIT_REASONS)[number];

/** What the database knows about an item, by its own clock. */
export interface WaitFacts {
  readonly state: "queued" | "running" | "retrying" | "succeeded" | "dead" | "cancelled";
  readonly isDue: boolean;
  readonly isLeaseOver: boolean;
  readonly cancelRequestedAt: string | null;
  readonly sentAt: string | null;
  /** Since its message could have been read; null when it has none. */
  readonly sentSeconds: number | null;
  readonly runningOfTenant: number;
}

export interface Why {
  readonly reason: WaitReason;
  readonly text: string;
}

/** Longer than any queue should make an item wait. */
const NO_WORKER_SECONDS = 300;

const TEXTS: Readonly<Record<WaitReason, string>> = {
  ended: "It is over.",
  kind_unknown: "No worker of this version knows its kind: finish the deployment, or cancel it.",
  running: "A worker has it.",
  cancelling: "A worker has it and sees the cancel at its next heartbeat.",
  worker_lost: "Its worker vanished; the sweeper takes it over within a minute.",
  not_due: "Its start is later: see dueAt.",
  waiting_retry: "Its last attempt failed; the next one starts at dueAt.",
  tenant_limit: "Its tenant runs as many items of this kind as it may.",
  waiting_turn: "It waits behind other items of its tenant; the sweeper looks within a minute.",
  in_queue: "Its message is in the storage queue.",
  no_worker:
    "Its message has been in the storage queue for more than 5 minutes: no worker takes it.",
};

/** Exactly one answer to "why is it not running?" for whatever state an item is in. */
export function whyWaiting(
  facts: WaitFacts,
  spec: Pick<WorkSpec, "runningPerTenantMax"> | undefined,
): Why {
  const reason = reasonOf(facts, spec);
  return { reason, text: TEXTS[reason] };
}

function reasonOf(
  facts: WaitFacts,
  spec: Pick<WorkSpec, "runningPerTenantMax"> | undefined,
): WaitReason {
  const { state, isDue, sentAt, sentSeconds, runningOfTenant } = facts;
  if (state === "succeeded" || state === "dead" || state === "cancelled") return "ended";
  if (state === "running") return runningReason(facts);
  if (spec === undefined) return "kind_unknown";
  if (!isDue) return state === "retrying" ? "waiting_retry" : "not_due";
  if (sentAt !== null) return (sentSeconds ?? 0) > NO_WORKER_SECONDS ? "no_worker" : "in_queue";
  return runningOfTenant >= spec.runningPerTenantMax ? "tenant_limit" : "waiting_turn";
}

function runningReason({ isLeaseOver, cancelRequestedAt }: WaitFacts): WaitReason {
  if (isLeaseOver) return "worker_lost";
  return cancelRequestedAt === null ? "running" : "cancelling";
}
