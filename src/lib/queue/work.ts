import type { z } from "zod";
import type { Run } from "../kernel/run.ts";

export const PRIORITIES = ["urgent", "high", "normal", "low"] as const;
export type Priority = (typeof PRIORITIES)[number];

/** One attempt at a work item. `signal` aborts on its timeout, a cancel, a lost lease and shutdown. */
export interface WorkRun extends Run {
  /** Row of `worker.work_items`. */
  readonly itemId: string;
  readonly tenant: string;
  readonly priority: Priority;
  /** 1 for the first attempt; failures and crashes are counted apart. */
  readonly attempt: number;
  /** Rises with every claim of the item; whoever writes for the item checks it in that same write. */
  readonly fence: number;
  /** Shows in the item while it works; best effort. */
  progress(fields: Readonly<Record<string, unknown>>): void;
}

/** What became of an item: ids and counts, at most 16 KiB as JSON, kept with the item. */
export type WorkResult = Readonly<Record<string, unknown>>;

/** What everybody knows about a kind of work, without what does it. */
export interface WorkSpec<Payload = unknown> {
  /** Singular, as in paths and rows: `document`. Its queues are `<queue>-<priority>`. */
  readonly kind: string;
  /** Plural, as in the names of its queues: `documents`. */
  readonly queue: string;
  /** Each version that is still accepted, with its shape: ids and options, never content; at most 8 KiB as JSON. */
  readonly versions: Readonly<Record<number, z.ZodType<Payload>>>;
  readonly maxAttempts: number;
  readonly leaseMs: number;
  /** At most 8 minutes: the platform ends a function after 10. */
  readonly timeoutMs: number;
  /** Items of one tenant that may run at once; the surplus waits its turn without using up attempts. */
  readonly runningPerTenantMax: number;
  /** How messages of other producers become items; without it they are refused. */
  readonly adopt?: {
    tenantOf(payload: Payload): string;
    /** Live items of a tenant with the same key are one. */
    dedupeKeyOf?(payload: Payload): string | undefined;
  };
}

/**
 * A kind of work. Handlers run at least once: they are idempotent, and fence their own writes. A transient error is
 * retried with backoff, any other ends the item as a dead letter at once.
 */
export interface WorkKind<Services, Payload> extends WorkSpec<Payload> {
  readonly handle: (services: Services, payload: Payload, run: WorkRun) => Promise<WorkResult>;
  /** Tells the feature that an item ended without success; its own books follow. Idempotent. */
  readonly settle?: (services: Services, payload: Payload, ending: WorkEnding) => Promise<void>;
}

export interface WorkEnding {
  readonly itemId: string;
  readonly state: "dead" | "cancelled";
  /** Stable code; never content. */
  readonly reason: string;
}
