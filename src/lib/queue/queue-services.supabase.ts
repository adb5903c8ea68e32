import { randomUUID } from "node:crypto";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import { createWorkQueue, type WorkQueue } from "./enqueue-work.ts";
import type { WorkSpec } from "./work.ts";
import { workBooks, workClaims, workSweeps } from "./work-ledger.supabase.ts";
import { type WorkOffice, type WorkReads, workOffice, workReads } from "./work-office.supabase.ts";
import type { WorkBooks, WorkClaims, WorkSender, WorkSweeps } from "./work-ports.ts";

export interface QueueServices {
  readonly workSpecs: readonly WorkSpec[];
  /** How other features ask for work. */
  readonly workQueue: WorkQueue;
  readonly workBooks: WorkBooks;
  readonly workClaims: WorkClaims;
  readonly workSweeps: WorkSweeps;
  readonly workSender: WorkSender;
  readonly workReads: WorkReads;
  readonly workOffice: WorkOffice;
  /** Aborts when this process is about to end: what it works on is released and counts nothing. */
  readonly stopping: AbortSignal;
  readonly workUnderWay: Set<Promise<unknown>>;
  /** Stops what is under way and waits until it is released; the caller bounds the wait. */
  stopWork(): Promise<void>;
}

export interface QueueServicesOptions {
  readonly rpc: Rpc;
  readonly sender: WorkSender;
  readonly specs: readonly WorkSpec[];
  readonly random?: () => number;
}

/** What the work queue needs of a process, which has an identity of its own. */
export function queueServices(options: QueueServicesOptions): QueueServices {
  const { rpc, sender, specs, random = Math.random } = options;
  const worker = `${process.pid}-${randomUUID().slice(0, 8)}`;
  const books = workBooks(rpc, specs);
  const stop = new AbortController();
  const underWay = new Set<Promise<unknown>>();
  return {
    workSpecs: specs,
    workQueue: createWorkQueue({ workSpecs: specs, workBooks: books, workSender: sender }),
    workBooks: books,
    workClaims: workClaims(rpc, { specs, worker, random }),
    workSweeps: workSweeps(rpc, specs),
    workSender: sender,
    workReads: workReads(rpc),
    workOffice: workOffice(rpc, specs),
    stopping: stop.signal,
    workUnderWay: underWay,
    stopWork: async () => {
      stop.abort();
      await Promise.allSettled(underWay);
    },
  };
}
