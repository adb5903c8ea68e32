// A no-op work item from its enqueueing until it is done, against a bare send, receive and delete on the same Azurite in the
// same run: one at a time, and 16 at a time. With the Supabase API on embedded Postgres, everything on one machine.
//   npm run bench:queue     bar: at most 2 × the time of the bare message
import { randomUUID } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DequeuedMessageItem, QueueClient } from "@azure/storage-queue";
import { startBackends } from "../../local/backends/stack.ts";
import { createQueues } from "../../local/backends/storage-queues.ts";
import { runWork } from "../../src/lib/queue/run-work.ts";
import { testRun } from "../support/test-run.ts";
import { deliveryOf, openShop, order, thingWork } from "../support/work-shop.ts";
import { compare, report } from "./compare.ts";

const ITEMS = Number(process.env["BENCH_ITEMS"] ?? 300);
const ROUNDS = Number(process.env["BENCH_ROUNDS"] ?? 5);
const TENANTS = 16;

const dir = mkdtempSync(join(tmpdir(), "worker-service-bench-"));
chmodSync(dir, 0o755); // Postgres runs as another user when we are root
const backends = await startBackends({
  dir,
  database: "postgres",
  ports: {},
  queues: [],
  log: () => {},
});
const { settings } = backends;
const connectionString = settings.AzureWebJobsStorage;
const shop = await openShop(
  {
    supabase: { url: settings.SUPABASE_URL, key: settings.SUPABASE_KEY },
    connectionString,
    queue: "things",
  },
  { runningPerTenantMax: 32 },
);
const work = thingWork(shop.spec, async () => ({}));
const itemQueue = shop.queue("normal");
await createQueues(connectionString, ["bare"]);
const bareQueue = new QueueClient(connectionString, "bare");
const WAIT = { visibilityTimeout: 60 };

/** Sends one and works one off; at the end each queue is empty. */
const bareOnce = async (): Promise<void> => {
  const text = Buffer.from(JSON.stringify({ v: 1, item: randomUUID(), kind: "thing" }));
  await bareQueue.sendMessage(text.toString("base64"));
  const message = await receiveFrom(bareQueue);
  await bareQueue.deleteMessage(message.messageId, message.popReceipt);
};

const itemOnce = async (i: number): Promise<void> => {
  const wanted = order({ tenant: `tenant-${i % TENANTS}` });
  await shop.services.workQueue.enqueue("thing", wanted, shop.signal);
  const message = await receiveFrom(itemQueue);
  const delivery = deliveryOf({ message, priority: "normal", client: itemQueue });
  await runWork(shop.services, work, delivery, testRun());
  await itemQueue.deleteMessage(message.messageId, message.popReceipt);
};

async function receiveFrom(queue: QueueClient): Promise<DequeuedMessageItem> {
  for (;;) {
    const { receivedMessageItems } = await queue.receiveMessages(WAIT);
    const [message] = receivedMessageItems;
    if (message !== undefined) return message;
  }
}

const lanes = (count: number, once: (i: number) => Promise<void>) => async (): Promise<number> => {
  let next = 0;
  const lane = async () => {
    while (next < ITEMS) await once(next++);
  };
  await Promise.all(Array.from({ length: count }, lane));
  return ITEMS;
};

for (const count of [1, 16]) {
  const measured = await compare(
    [
      { name: "bare send + receive + delete", run: lanes(count, bareOnce) },
      { name: "work item, enqueue → done", run: lanes(count, itemOnce) },
    ],
    ROUNDS,
  );
  report(`${count} at a time`, "items", measured);
  const [bare, item] = measured;
  const ratio = (bare?.median ?? Number.NaN) / (item?.median ?? Number.NaN);
  console.log(`  time of an item: ${ratio.toFixed(2)} × a bare message (bar: 2)`);
}

await shop.close();
await backends.stop();
rmSync(dir, { recursive: true, force: true });
