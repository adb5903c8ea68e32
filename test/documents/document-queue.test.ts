import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createQueues } from "../../local/backends/storage-queues.ts";
import { documentQueueOf } from "../../src/lib/documents/document-queue.ts";
import {
  documentRequests,
  documentSweeps,
} from "../../src/lib/documents/document-requests.supabase.ts";
import {
  cancelDocument,
  type DocumentQueue,
  deleteDocument,
  type RequestDeps,
  registerDocument,
  requestDocument,
} from "../../src/lib/documents/document-requests.ts";
import { DOCUMENT_SPEC } from "../../src/lib/documents/document-spec.ts";
import { sweepDocuments } from "../../src/lib/documents/sweep-documents.ts";
import { transient } from "../../src/lib/kernel/errors.ts";
import { queueServices } from "../../src/lib/queue/queue-services.supabase.ts";
import { workQueuesOf } from "../../src/lib/queue/work-message.ts";
import { workSender } from "../../src/lib/queue/work-sender.storage.ts";
import { createQueueSender } from "../../src/lib/runtime/queue-sender.storage.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { openQueues } from "../support/stack.ts";
import { testRun } from "../support/test-run.ts";
import { type DocumentWorld, openDocumentWorld } from "./document-world.ts";

/** Documents and the real work queue, on real Postgres and Azurite. */
let world: DocumentWorld;
let api: ReturnType<typeof createRpc>;
let deps: RequestDeps;
let queue: DocumentQueue;
beforeAll(async () => {
  const [opened, { connectionString }] = await Promise.all([openDocumentWorld(), openQueues()]);
  world = opened;
  await createQueues(connectionString, workQueuesOf(DOCUMENT_SPEC));
  const { url, key } = await world.database.supabase();
  api = createRpc({ url, key });
  const sender = createQueueSender({ connectionString });
  const wakeups = workSender(sender, [DOCUMENT_SPEC], testRun().log);
  queue = documentQueueOf(queueServices({ rpc: api.rpc, sender: wakeups, specs: [DOCUMENT_SPEC] }));
  deps = {
    documentQueue: queue,
    documentRequests: documentRequests(api.rpc),
    documentsConfig: { containers: ["documents"] },
  };
});
afterAll(async () => {
  await api.close();
  await world.close();
});

const asker = { actor: "the-operator", reason: "a test wants it", requestId: "r" };
const away: DocumentQueue = {
  enqueue: () => Promise.reject(transient("database_unavailable")),
  cancel: () => Promise.reject(transient("database_unavailable")),
};
const register = (over: Partial<RequestDeps> = {}, workspaceId: string = randomUUID()) =>
  registerDocument(
    { ...deps, ...over },
    {
      id: undefined,
      workspaceId,
      name: "A document",
      mime: undefined,
      storage: "azure",
      container: "documents",
      path: `${workspaceId}/a.txt`,
      priority: "high",
    },
    asker,
    testRun(),
  ).then((asked) => ({ ...asked, message: { documentId: asked.id, workspaceId } }));
const itemsOf = async (id: string) => [
  ...(await world.sql`
    select id, state, priority, tenant from worker.work_items where dedupe_key = ${id} order by seq`),
];

describe("a registered document", () => {
  test("is one live work item, however often somebody asks", async () => {
    const { id, workItem, message } = await register();
    const again = await requestDocument(deps, message, { isForced: false, asker }, testRun());
    expect(again.workItem).toBe(workItem);
    expect(await itemsOf(id)).toEqual([
      { id: workItem, state: "queued", priority: "high", tenant: message.workspaceId },
    ]);
    expect(await world.row(id)).toMatchObject({ state: "queued", work_item: workItem });
  });

  test("takes its work item with it when it is cancelled or deleted", async () => {
    for (const end of [cancelDocument, deleteDocument]) {
      const { id, workItem, message } = await register();
      await end(deps, message, asker, testRun());
      expect(await itemsOf(id)).toMatchObject([{ id: workItem, state: "cancelled" }]);
    }
  });

  test("is cancelled although the queue is away", async () => {
    const { id, message } = await register();
    const run = testRun();
    await cancelDocument({ ...deps, documentQueue: away }, message, asker, run);
    expect(await world.row(id)).toMatchObject({ state: "cancelled" });
    expect(run.lines).toMatchObject([{ event: "document_work_not_cancelled" }]);
  });

  test("that was cancelled gets a new work item when somebody asks again", async () => {
    const { id, workItem, message } = await register();
    await cancelDocument(deps, message, asker, testRun());
    const again = await requestDocument(deps, message, { isForced: false, asker }, testRun());
    expect(again.workItem).not.toBe(workItem);
    expect(await world.row(id)).toMatchObject({ state: "queued", work_item: again.workItem });
  });
});

describe("the sweep", () => {
  const sweep = (documentQueue: DocumentQueue) =>
    sweepDocuments(
      { clock: { now: Date.now }, documentSweeps: documentSweeps(api.rpc), documentQueue },
      testRun(),
    );
  const age = (...ids: string[]) => world.sql`
    update worker.documents set updated_at = now() - interval '20 minutes' where id = any (${ids})`;

  test("hands over what was never enqueued, and leaves live items alone", async () => {
    const lost = await register({ documentQueue: away });
    const live = await register();
    expect(lost.workItem).toBeUndefined();
    await age(lost.id, live.id);
    expect(await sweep(queue)).toMatchObject({ swept: 2, failed: 0 });
    expect(await itemsOf(lost.id)).toMatchObject([{ state: "queued", priority: "high" }]);
    expect(await itemsOf(live.id)).toMatchObject([{ id: live.workItem }]);
    expect(await sweep(queue)).toMatchObject({ swept: 0 });
  });

  test("tries again later when the queue is still away", async () => {
    const { id } = await register({ documentQueue: away });
    await age(id);
    expect(await sweep(away)).toMatchObject({ swept: 0, failed: 1 });
    await age(id);
    expect(await sweep(queue)).toMatchObject({ swept: 1, failed: 0 });
    expect(await itemsOf(id)).toHaveLength(1);
  });
});
