import { setTimeout as sleep } from "node:timers/promises";
import { BlobServiceClient, type ContainerClient } from "@azure/storage-blob";
import { z } from "zod";
import { SAMPLE_FILES } from "./documents.ts";
import type { Caller } from "./worker-client.ts";

/** The workspace of the simulated product. */
export const SAMPLE_WORKSPACE = "5a3b1e52-7c11-4f0e-9a44-0d0c5a3b1e52";
const CONTAINER = "documents";
const QUESTIONS = [
  "¿Cuántos días de vacaciones tengo?",
  "refund without a receipt",
  "descuento por retraso del proveedor",
];
const POLL_MS = 300;
const READY_WITHIN_MS = 60_000;

const Registered = z.object({ id: z.string() });
const Listed = z.object({
  rows: z.array(
    z.object({
      id: z.string(),
      name: z.string(),
      status: z.string(),
      chunks: z.number().nullable(),
      errorCode: z.string().nullable(),
    }),
  ),
});
type Row = z.output<typeof Listed>["rows"][number];
const Found = z.object({
  hits: z.array(
    z.object({
      name: z.string(),
      headings: z.array(z.string()),
      pageFrom: z.number().nullable(),
      snippet: z.string(),
    }),
  ),
});

/**
 * Stores, registers and processes a few documents, and searches in them. On a store that has them already it does
 * nothing. Answers what is worth showing.
 */
export async function processDocuments(
  call: Caller,
  storage: string,
  stop: AbortSignal,
): Promise<string | undefined> {
  if ((await list(call)).length > 0) return undefined;
  const service = BlobServiceClient.fromConnectionString(storage);
  const container = service.getContainerClient(CONTAINER);
  await container.createIfNotExists();
  for (const file of SAMPLE_FILES) await add(call, container, file);
  const rows = await untilDone(call, stop);
  const answers = await Promise.all(QUESTIONS.map((question) => ask(call, question)));
  const documents = rows.map(
    ({ name, status, chunks, errorCode }) =>
      `  ${name}: ${status}, chunks: ${chunks ?? 0}${errorCode ? ` (${errorCode})` : ""}`,
  );
  return [...documents, "", ...answers].join("\n");
}

async function add(
  call: Caller,
  container: ContainerClient,
  { name, mime, make }: (typeof SAMPLE_FILES)[number],
): Promise<void> {
  const path = `${SAMPLE_WORKSPACE}/${name}`;
  const bytes = await make();
  await container.getBlockBlobClient(path).upload(Buffer.from(bytes), bytes.length);
  const registration = { workspace: SAMPLE_WORKSPACE, name, mime, storage: "azure", path };
  Registered.parse(await call("POST", "/documents", JSON.stringify(registration)));
}

const list = async (call: Caller): Promise<readonly Row[]> =>
  Listed.parse(await call("GET", `/documents?workspace=${SAMPLE_WORKSPACE}`)).rows;

async function untilDone(call: Caller, stop: AbortSignal): Promise<readonly Row[]> {
  const deadline = Date.now() + READY_WITHIN_MS;
  for (;;) {
    const rows = await list(call);
    const isDone = rows.every(({ status }) => status !== "PENDING" && status !== "PROCESSING");
    if (isDone || stop.aborted || Date.now() >= deadline) return rows;
    await sleep(POLL_MS);
  }
}

async function ask(call: Caller, question: string): Promise<string> {
  const body = JSON.stringify({ workspace: SAMPLE_WORKSPACE, query: question, limit: 1 });
  const [hit] = Found.parse(await call("POST", "/documents/search", body)).hits;
  if (hit === undefined) return `  ${question}\n    nothing found`;
  const page = hit.pageFrom === null ? "" : `, page ${hit.pageFrom}`;
  const where = [hit.name, ...hit.headings].join(" › ");
  return `  ${question}\n    ${where}${page}: ${hit.snippet.replace(/\s+/g, " ")}`;
}
