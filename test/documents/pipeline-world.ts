import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { BlobServiceClient } from "@azure/storage-blob";
import { chunksOf } from "../../src/lib/documents/chunk/chunk-blocks.ts";
import { CHUNKER_VERSION } from "../../src/lib/documents/chunk/chunker-version.ts";
import type { DocumentRun } from "../../src/lib/documents/document-run.ts";
import { documentEndings, documentWork } from "../../src/lib/documents/document-work.supabase.ts";
import { createLexHash } from "../../src/lib/documents/embed/lex-hash.ts";
import type { ReadFile } from "../../src/lib/documents/ingest-document.ts";
import type { ProcessDeps } from "../../src/lib/documents/process-document.ts";
import { azureObjects } from "../../src/lib/documents/stored-objects.storage.ts";
import { supabaseObjects } from "../../src/lib/documents/stored-objects.supabase.ts";
import { storedObjects } from "../../src/lib/documents/stored-objects.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { openQueues } from "../support/stack.ts";
import { type TestRun, testRun } from "../support/test-run.ts";
import { type DocumentWorld, openDocumentWorld, registration } from "./document-world.ts";

/** The whole pipeline on real Postgres and Azurite; only the reader is a plain one, for texts. */
export interface PipelineWorld extends DocumentWorld {
  readonly deps: ProcessDeps;
  /** Stores a content under a name of its own in the workspace, replacing what was there. */
  upload(workspace: string, name: string, content: string | Buffer): Promise<string>;
  /** Uploads and registers. */
  add(content: string, workspace?: string): Promise<StoredDocument>;
  contents(id: string): Promise<string[]>;
}

export interface StoredDocument {
  readonly id: string;
  readonly workspace: string;
  readonly path: string;
  readonly message: { readonly documentId: string; readonly workspaceId: string };
}

export const BYTES_MAX = 100_000;
const CONTAINER = "documents";

export async function openPipelineWorld(): Promise<PipelineWorld> {
  const [world, { connectionString }] = await Promise.all([openDocumentWorld(), openQueues()]);
  const { url, key } = await world.database.supabase();
  const api = createRpc({ url, key });
  const container =
    BlobServiceClient.fromConnectionString(connectionString).getContainerClient(CONTAINER);
  await container.createIfNotExists();
  const stores = { azure: azureObjects(connectionString), supabase: supabaseObjects({ url, key }) };
  const deps: ProcessDeps = {
    documentWork: documentWork(api.rpc),
    documentEndings: documentEndings(api.rpc),
    storedObjects: storedObjects(stores, [CONTAINER]),
    readFile: readText,
    chunksOf,
    embedder: createLexHash(),
    pipelineVersions: { reader: "text-1", chunker: CHUNKER_VERSION },
    documentsConfig: { bytesMax: BYTES_MAX },
  };
  const upload = async (workspace: string, name: string, content: string | Buffer) => {
    const path = `${workspace}/${name}`;
    const bytes = Buffer.from(content);
    await container.getBlockBlobClient(path).upload(bytes, bytes.length);
    return path;
  };
  return {
    ...world,
    deps,
    upload,
    add: async (content, workspace = randomUUID()) => {
      const path = await upload(workspace, `${randomUUID()} política.txt`, content);
      const answer = await world.call(
        "document_register",
        registration(workspace, { p_path: path }),
      );
      const id = String(answer["id"]);
      return { id, workspace, path, message: { documentId: id, workspaceId: workspace } };
    },
    contents: async (id) => {
      const rows = await world.sql`
        select content from worker.document_chunks where document_id = ${id} order by version, ordinal`;
      return rows.map((row) => String(row["content"]));
    },
    close: async () => {
      await api.close();
      await world.close();
    },
  };
}

/** One paragraph for each line. */
export const readText: ReadFile = async ({ path }) => {
  const text = await readFile(path, "utf8");
  const blocks = text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => ({ kind: "paragraph", text: line }) as const);
  return { type: "text", blocks, warnings: [] };
};

export type TestDocumentRun = DocumentRun & Pick<TestRun, "lines" | "notes">;

/** An attempt as the queue makes it. */
export const documentRun = (
  parts: Partial<Pick<DocumentRun, "itemId" | "fence" | "attempt" | "signal">> = {},
): TestDocumentRun => ({
  ...testRun(parts.signal),
  itemId: parts.itemId ?? randomUUID(),
  fence: parts.fence ?? 1,
  attempt: parts.attempt ?? 1,
  progress: () => {},
});

/** A text of several chunks. */
export const longText = (word: string, lines = 40): string =>
  Array.from(
    { length: lines },
    (_, i) => `${word} paragraph ${i}: ${`the ${word} of line ${i} tells something. `.repeat(8)}`,
  ).join("\n");
