import { randomBytes, randomUUID } from "node:crypto";
import { BlobServiceClient } from "@azure/storage-blob";
import { QueueServiceClient } from "@azure/storage-queue";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openDatabase, openRedis, type TestDatabase, type TestRedis } from "../support/stack.ts";
import { openWorkerQueues, startWorker, type TestWorker } from "../support/worker.ts";

/**
 * The story of a document. It is stored, registered over HTTP and processed by the real functions in the embedded host,
 * with the real reader in its child process. The worker process is killed in the middle, twice; the next one takes the
 * document over, and in the end its chunks are there exactly once. A document that nobody disturbed is the measure.
 */
const CONTAINER = "documents";
const KILLS = 2;

let redis: TestRedis;
let database: TestDatabase;
let storage: Awaited<ReturnType<typeof openWorkerQueues>>;
let worker: TestWorker | undefined;
let env: Record<string, string>;

beforeAll(async () => {
  [redis, database, storage] = await Promise.all([openRedis(), openDatabase(), openWorkerQueues()]);
  const { url, key } = await database.supabase();
  env = {
    SUPABASE_URL: url,
    SUPABASE_KEY: key,
    REDIS_URL: redis.url,
    AzureWebJobsStorage: storage.connectionString,
    WORK_SWEEP_SCHEDULE: "* * * * * *",
  };
  worker = await startWorker(env);
}, 60_000);
afterAll(async () => {
  await worker?.child.stop();
  await Promise.all([redis.close(), database.close(), storage.close()]);
});

/** Long enough to be caught in the middle: several calls of chunks. */
const markdown = (sections: number): string =>
  Array.from(
    { length: sections },
    (_, i) =>
      `# Apartado ${i}\n\n${`El apartado ${i} del contrato explica una condición distinta. `.repeat(30)}\n`,
  ).join("\n");

async function add(workspace: string, content: string | Buffer): Promise<string> {
  const service = BlobServiceClient.fromConnectionString(storage.connectionString);
  const container = service.getContainerClient(CONTAINER);
  await container.createIfNotExists();
  const path = `${workspace}/${randomUUID()} año.md`;
  const bytes = Buffer.from(content);
  await container.getBlockBlobClient(path).upload(bytes, bytes.length);
  const registration = { workspace, name: "Contrato.md", storage: "azure", path };
  const answer = await worker?.post("/documents", registration);
  expect(answer).toMatchObject({ status: 202 });
  return String(answer?.body["id"]);
}

const stateOf = async (id: string) => {
  const [row] = await database.sql`select state from worker.documents where id = ${id}`;
  return row?.["state"];
};
const stagedOf = async (id: string): Promise<number> => {
  const [row] = await database.sql`
    select count(*)::int as staged from worker.document_chunks c join worker.documents d on d.id = c.document_id
     where d.id = ${id} and c.version = d.claims and d.state = 'processing'`;
  return Number(row?.["staged"]);
};
const contentsOf = async (id: string): Promise<string[]> => {
  const rows = await database.sql`
    select content from worker.document_chunks where document_id = ${id} order by version, ordinal`;
  return rows.map((row) => String(row["content"]));
};
/** Nobody waits for a lease in a test. */
const expireLeases = () => database.sql`
  update worker.work_items set lease_until = now() - interval '1 second' where state = 'running'`;

test("two kills in the middle, and every chunk is served exactly once", async () => {
  const workspace = randomUUID();
  const text = markdown(200);
  const id = await add(workspace, text);
  for (let kill = 0; kill < KILLS; kill += 1) {
    await expect.poll(() => stagedOf(id), { timeout: 30_000, interval: 10 }).toBeGreaterThan(0);
    await worker?.child.kill();
    expect(await stateOf(id)).toBe("processing");
    await expireLeases();
    worker = await startWorker(env);
  }
  await expect.poll(() => stateOf(id), { timeout: 60_000, interval: 100 }).toBe("ready");

  const measure = await add(randomUUID(), text);
  await expect.poll(() => stateOf(measure), { timeout: 60_000, interval: 100 }).toBe("ready");
  const contents = await contentsOf(id);
  expect(contents.length).toBeGreaterThan(64 * KILLS);
  expect(contents).toEqual(await contentsOf(measure));

  const found = await worker?.post("/documents/search", {
    workspace,
    query: "¿Qué explica el apartado 17 del contrato?",
  });
  expect(found).toMatchObject({ status: 200 });
  expect(JSON.stringify(found?.body)).toContain("**");
  const [row] = await database.sql`select worker.work_accounting() as books`;
  expect(row?.["books"]).toMatchObject({ unaccounted: "0", succeeded: "2", dead: "0" });
}, 180_000);

test("a message of another producer is processed; one with a bad id is a dead letter by name", async () => {
  const workspace = randomUUID();
  const id = await add(workspace, "# Uno\n\nUn texto corto sobre vacaciones.");
  await expect.poll(() => stateOf(id), { timeout: 30_000, interval: 50 }).toBe("ready");
  const queue = QueueServiceClient.fromConnectionString(storage.connectionString).getQueueClient(
    "documents-high",
  );
  const send = (message: unknown) =>
    queue.sendMessage(Buffer.from(JSON.stringify(message)).toString("base64"));
  await send({ documentId: id, workspaceId: workspace });
  await send({ documentId: "no-uuid", workspaceId: workspace });
  const endings = async () => {
    const rows = await database.sql`
      select state, code from worker.work_items where priority = 'high' order by state`;
    return [...rows];
  };
  await expect.poll(endings, { timeout: 30_000, interval: 100 }).toEqual([
    { state: "dead", code: "message_invalid" },
    { state: "succeeded", code: null },
  ]);
}, 60_000);

test("a document that no reader can open fails at once, and is a dead letter with its code", async () => {
  const id = await add(randomUUID(), randomBytes(20_000));
  await expect.poll(() => stateOf(id), { timeout: 30_000, interval: 50 }).toBe("unsupported");
  const ending = async () => {
    const [item] = await database.sql`
      select state, code from worker.work_items where dedupe_key = ${id}`;
    return { ...item };
  };
  await expect
    .poll(ending, { timeout: 10_000, interval: 50 })
    .toEqual({ state: "dead", code: "document_unsupported_type" });
}, 60_000);
