import { permanent } from "../kernel/errors.ts";
import { coalesce } from "./coalesce.ts";
import { newestVersion, PAYLOAD_BYTES_MAX, parsePayload } from "./read-delivery.ts";
import { isStorable } from "./storable-json.ts";
import type { Priority, WorkSpec } from "./work.ts";
import type { Accepted, NewItem, WorkBooks, WorkSender } from "./work-ports.ts";

export interface WorkOrder {
  readonly payload: unknown;
  readonly tenant: string;
  /** Who asks: the name of a key, or a job. */
  readonly requestedBy: string;
  readonly priority?: Priority | undefined;
  /** While an item of the kind and tenant with this key lives, a second one is that one. At most 200 characters. */
  readonly dedupeKey?: string | undefined;
  /** Not before; milliseconds since 1970. */
  readonly runAt?: number | undefined;
  readonly maxAttempts?: number | undefined;
  /** The newest when absent. */
  readonly version?: number | undefined;
}

/** How other features ask for work. */
export interface WorkQueue {
  /**
   * Accepted means durable: the rows are written before it returns. A message that cannot be sent is sent later by the
   * sweeper. All or none; at most 1000.
   *
   * Errors: `work_kind_unknown` · `work_version_unknown` · `work_payload_invalid` · those of the database
   */
  enqueueAll(
    kind: string,
    orders: readonly WorkOrder[],
    signal: AbortSignal,
  ): Promise<readonly Accepted[]>;
  enqueue(kind: string, order: WorkOrder, signal: AbortSignal): Promise<Accepted>;
}

export interface EnqueueDeps {
  readonly workSpecs: readonly WorkSpec[];
  readonly workBooks: Pick<WorkBooks, "enqueue">;
  readonly workSender: WorkSender;
}

const ITEMS_MAX = 1000;

/** Single items of one moment share a round trip. */
const BATCH_MAX = 100;
/** What travels for several callers is bounded by the deadlines of database and storage queue. */
const NEVER = new AbortController().signal;

export function createWorkQueue({ workSpecs, workBooks, workSender }: EnqueueDeps): WorkQueue {
  const accept = async (items: readonly NewItem[], signal: AbortSignal) => {
    const { items: accepted, send } = await workBooks.enqueue(items, false, signal);
    await workSender.send(send, signal);
    return accepted;
  };
  const acceptOne = coalesce((items: readonly NewItem[]) => accept(items, NEVER), BATCH_MAX);
  const specOf = (kind: string): WorkSpec => {
    const spec = workSpecs.find((known) => known.kind === kind);
    if (spec === undefined) throw permanent("work_kind_unknown", { kind });
    return spec;
  };
  return {
    enqueueAll: async (kind, orders, signal) => {
      const spec = specOf(kind);
      if (orders.length > ITEMS_MAX) throw permanent("work_batch_too_large", { max: ITEMS_MAX });
      if (orders.length === 0) return [];
      return accept(
        orders.map((order) => toItem(spec, order)),
        signal,
      );
    },
    enqueue: async (kind, order, signal) => acceptOne(toItem(specOf(kind), order), signal),
  };
}

function toItem(spec: WorkSpec, order: WorkOrder): NewItem {
  const { payload, version = newestVersion(spec), maxAttempts = spec.maxAttempts } = order;
  const { tenant, requestedBy, priority = "normal", dedupeKey, runAt } = order;
  parsePayload(spec, version, payload);
  if (!isStorable(payload, PAYLOAD_BYTES_MAX)) {
    const reason = `must have at most ${PAYLOAD_BYTES_MAX} bytes as JSON, without NUL and half characters`;
    throw permanent("work_payload_invalid", { faults: [{ field: "payload", reason }] });
  }
  const options = { dedupeKey, runAt };
  return {
    kind: spec.kind,
    version,
    payload,
    tenant,
    requestedBy,
    priority,
    maxAttempts,
    ...options,
  };
}
