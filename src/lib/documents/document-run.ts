import type { Run } from "../kernel/run.ts";

/** One attempt at a work item, as far as documents care. `signal` aborts on a cancel, a lost lease, time and shutdown. */
export interface DocumentRun extends Run {
  readonly itemId: string;
  /** From 1. */
  readonly attempt: number;
  /** Rises with every claim of the item. */
  readonly fence: number;
  progress(fields: Readonly<Record<string, unknown>>): void;
}

/** Counts and ids, kept with the item. */
export type DocumentResult = Readonly<Record<string, unknown>>;
