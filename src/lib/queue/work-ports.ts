import type { Priority } from "./work.ts";

/** A message to send: which item, to which queue, and how long it stays invisible. */
export interface Wakeup {
  readonly id: string;
  readonly kind: string;
  readonly priority: Priority;
  readonly delayMs: number;
}

/** Sends wake-ups. */
export interface WorkSender {
  /**
   * Sends all, a few at a time, and does not throw for one that fails: its row is the truth, and the sweeper sends it
   * again. Returns how many failed.
   */
  send(wakeups: readonly Wakeup[], signal: AbortSignal): Promise<number>;
}

export interface NewItem {
  readonly kind: string;
  readonly version: number;
  readonly tenant: string;
  readonly priority: Priority;
  readonly payload: unknown;
  readonly maxAttempts: number;
  readonly requestedBy: string;
  readonly dedupeKey?: string | undefined;
  /** Hash of the message it is made of. */
  readonly source?: string | undefined;
  /** Milliseconds since 1970. */
  readonly runAt?: number | undefined;
}

export interface Rejection {
  readonly source: string;
  readonly kind: string;
  readonly version: number;
  readonly tenant: string;
  readonly priority: Priority;
  readonly code: string;
  readonly error: string;
  readonly evidence: Readonly<Record<string, unknown>>;
}

export interface Accepted {
  readonly id: string;
  /** It repeats a live item, or one that was made of the same message. */
  readonly isDuplicate: boolean;
}

/** How work gets into the books. */
export interface WorkBooks {
  /** All or none; at most 1000. `isSent`: their messages are there already. */
  enqueue(
    items: readonly NewItem[],
    isSent: boolean,
    signal: AbortSignal,
  ): Promise<{ readonly items: readonly Accepted[]; readonly send: readonly Wakeup[] }>;
  /** A message that cannot become an item: a dead letter of its own. */
  reject(rejection: Rejection, signal: AbortSignal): Promise<Accepted>;
}

export interface ClaimedItem {
  readonly id: string;
  readonly kind: string;
  readonly version: number;
  readonly tenant: string;
  readonly priority: Priority;
  readonly payload: unknown;
  readonly attempt: number;
  readonly fence: number;
}

/** An item that ended without success. */
export interface EndedItem {
  readonly id: string;
  readonly kind: string;
  readonly version: number;
  readonly payload: unknown;
  readonly state: "dead" | "cancelled";
  readonly code: string;
}

export type Claim =
  | { readonly outcome: "claimed"; readonly item: ClaimedItem }
  /** The message has done its work: nobody knows the item, it ended, somebody works on it, or it waits for its turn. */
  | { readonly outcome: "unknown" | "gone" | "busy" | "throttled" }
  /** The message comes back after the delay. */
  | { readonly outcome: "not_due" | "alone"; readonly delayMs: number; readonly priority: Priority }
  /** It was taken from a worker that vanished, for the last time. */
  | { readonly outcome: "ended"; readonly item: EndedItem; readonly send: readonly Wakeup[] };

export interface Settlement {
  readonly outcome: "succeeded" | "transient" | "permanent" | "cancelled" | "released";
  readonly code?: string;
  readonly error?: string;
  readonly result?: unknown;
  readonly evidence?: unknown;
  /** At least this long until the next attempt. */
  readonly delayMs?: number;
}

export type Settled =
  /** Somebody else holds the item. */
  | { readonly status: "stale" }
  | {
      readonly status: "ok";
      readonly state: "succeeded" | "retrying" | "queued" | "dead" | "cancelled";
      readonly priority: Priority;
      /** Its message is sent again with this delay; undefined when it ended. */
      readonly delayMs: number | undefined;
      readonly send: readonly Wakeup[];
    };

/** One attempt at an item. */
export interface WorkClaims {
  claim(id: string, kind: string, signal: AbortSignal): Promise<Claim>;
  heartbeat(
    item: Pick<ClaimedItem, "id" | "fence" | "kind">,
    progress: unknown,
    signal: AbortSignal,
  ): Promise<{ readonly isHeld: boolean; readonly isCancelled: boolean }>;
  /** Idempotent: after a lost reply it says the same again. */
  settle(
    item: Pick<ClaimedItem, "id" | "fence" | "kind">,
    settlement: Settlement,
    hasSettle: boolean,
    signal: AbortSignal,
  ): Promise<Settled>;
  /** The features know that these ended. */
  settled(ids: readonly string[], signal: AbortSignal): Promise<void>;
}

/** What keeps items going whose message or worker was lost. */
export interface WorkSweeps {
  expired(
    kind: string,
    signal: AbortSignal,
  ): Promise<{ readonly recovered: number; readonly ended: number }>;
  lost(signal: AbortSignal): Promise<readonly Wakeup[]>;
  /** `after`: the `next` of the call before. */
  waiting(
    after: readonly string[] | undefined,
    signal: AbortSignal,
  ): Promise<{ readonly send: readonly Wakeup[]; readonly next: readonly string[] | undefined }>;
  unsettled(signal: AbortSignal): Promise<readonly EndedItem[]>;
}
