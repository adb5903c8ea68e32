import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { type DequeuedMessageItem, QueueClient } from "@azure/storage-queue";
import { z } from "zod";
import { createQueues } from "../../local/backends/storage-queues.ts";
import { type BoundWork, bindWork } from "../../src/lib/queue/bind-work.ts";
import { type QueueServices, queueServices } from "../../src/lib/queue/queue-services.supabase.ts";
import { type RunWorkDeps, runWork } from "../../src/lib/queue/run-work.ts";
import type { WorkEnding, WorkResult, WorkRun, WorkSpec } from "../../src/lib/queue/work.ts";
import { PRIORITIES, type Priority } from "../../src/lib/queue/work.ts";
import { workQueueOf, workQueuesOf } from "../../src/lib/queue/work-message.ts";
import { workSender } from "../../src/lib/queue/work-sender.storage.ts";
import { createQueueSender } from "../../src/lib/runtime/queue-sender.storage.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { type TestRun, testRun } from "./test-run.ts";

/** What every test works on: ids and how the handler is to behave. */
export const Thing = z.object({
  name: z.string().min(1).max(100),
  how: z.string().default("well"),
});
export type Thing = z.output<typeof Thing>;

export type ShopServices = QueueServices & RunWorkDeps;

export interface Shop {
  readonly spec: WorkSpec<Thing>;
  readonly services: ShopServices;
  readonly signal: AbortSignal;
  /** One attempt at everything that the queues hold, until they are empty. Answers how many messages. */
  drain(work: BoundWork<ShopServices>, options?: DrainOptions): Promise<number>;
  queue(priority: Priority): QueueClient;
  /** Visible and invisible messages of all queues. */
  messages(): Promise<number>;
  close(): Promise<void>;
}

export interface DrainOptions {
  readonly atOnce?: number;
  readonly runsMax?: number;
  /** Goes on until it says so, although the queues are empty. */
  readonly until?: () => boolean | Promise<boolean>;
  readonly onRun?: (run: TestRun) => void;
}

export interface ShopAddress {
  readonly supabase: { readonly url: string; readonly key: string };
  readonly connectionString: string;
  /** Queues of other shops have other names. */
  readonly queue: string;
}

export type SpecOptions = Partial<
  Pick<WorkSpec<Thing>, "leaseMs" | "timeoutMs" | "runningPerTenantMax" | "maxAttempts">
>;

export const thingSpec = (queue: string, options: SpecOptions = {}): WorkSpec<Thing> => ({
  kind: "thing",
  queue,
  versions: { 1: Thing },
  maxAttempts: 3,
  leaseMs: 60_000,
  timeoutMs: 30_000,
  runningPerTenantMax: 4,
  adopt: { tenantOf: () => "adopted", dedupeKeyOf: ({ name }) => name },
  ...options,
});

export const thingWork = (
  spec: WorkSpec<Thing>,
  handle: (services: ShopServices, thing: Thing, run: WorkRun) => Promise<WorkResult>,
  settle?: (services: ShopServices, thing: Thing, ending: WorkEnding) => Promise<void>,
): BoundWork<ShopServices> =>
  bindWork<ShopServices, Thing>({ ...spec, handle, ...(settle === undefined ? {} : { settle }) });

const VISIBLE_AGAIN_SECONDS = 30;
const IDLE_MS = 20;

export interface ShopHabits {
  readonly random?: () => number;
  /** A message whose worker vanished comes back after that time. */
  readonly visibleAgainSeconds?: number;
}

/** The work queue as a process has it, on a real database and real storage queues, and hands to work it off. */
export async function openShop(
  address: ShopAddress,
  options: SpecOptions = {},
  { random = Math.random, visibleAgainSeconds = VISIBLE_AGAIN_SECONDS }: ShopHabits = {},
): Promise<Shop> {
  const { supabase, connectionString } = address;
  const spec = thingSpec(address.queue, options);
  const signal = new AbortController().signal;
  await createQueues(connectionString, workQueuesOf(spec));
  const api = createRpc(supabase);
  const specs = [spec as WorkSpec];
  const quiet = testRun().log;
  const sender = workSender(createQueueSender({ connectionString }), specs, quiet);
  const clock = { now: Date.now };
  const services = { ...queueServices({ rpc: api.rpc, sender, specs, random }), clock };
  const queue = (priority: Priority) =>
    new QueueClient(connectionString, workQueueOf(spec.queue, priority));
  const queues = PRIORITIES.map((priority) => ({ priority, client: queue(priority) }));

  const drain = async (work: BoundWork<ShopServices>, drainOptions: DrainOptions = {}) => {
    const { atOnce = 1, runsMax = 10_000, until = () => true, onRun = () => {} } = drainOptions;
    let runs = 0;
    const hand = async () => {
      while (runs < runsMax) {
        const next = await receive(queues, visibleAgainSeconds);
        if (next === undefined) {
          if (await until()) return;
          await sleep(IDLE_MS);
          continue;
        }
        runs += 1;
        const run = testRun();
        onRun(run);
        await runWork(services, work, deliveryOf(next), run);
        await next.client.deleteMessage(next.message.messageId, next.message.popReceipt);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, hand));
    return runs;
  };

  return {
    spec,
    services,
    signal,
    drain,
    queue,
    messages: async () => {
      const counts = await Promise.all(queues.map(({ client }) => client.getProperties()));
      return counts.reduce(
        (sum, { approximateMessagesCount = 0 }) => sum + approximateMessagesCount,
        0,
      );
    },
    close: async () => {
      await services.stopWork();
      await api.close();
    },
  };
}

interface Received {
  readonly message: DequeuedMessageItem;
  readonly priority: Priority;
  readonly client: QueueClient;
}

/** The most urgent message there is. */
async function receive(
  queues: readonly { readonly priority: Priority; readonly client: QueueClient }[],
  visibilityTimeout: number,
): Promise<Received | undefined> {
  for (const { priority, client } of queues) {
    const { receivedMessageItems } = await client.receiveMessages({ visibilityTimeout });
    const [message] = receivedMessageItems;
    if (message !== undefined) return { message, priority, client };
  }
  return undefined;
}

/** As the host hands a message over. */
export function deliveryOf({ message, priority, client }: Received) {
  const text = Buffer.from(message.messageText, "base64").toString();
  return {
    raw: asJson(text),
    queue: client.name,
    priority,
    messageId: message.messageId,
    insertedAt: message.insertedOn.toISOString(),
  };
}

function asJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

export const order = (over: Readonly<Record<string, unknown>> = {}) => ({
  payload: { name: randomUUID() },
  tenant: `tenant-${randomUUID()}`,
  requestedBy: "test",
  ...over,
});
