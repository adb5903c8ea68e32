import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Block, Warning } from "../../../src/lib/documents/block.ts";
import { collectBlocks } from "../../../src/lib/documents/read/collect-blocks.ts";
import {
  type DocumentText,
  READ_LIMITS,
  type ReadLimits,
} from "../../../src/lib/documents/read/document-text.ts";
import { openOutput } from "../../../src/lib/documents/read/output.ts";
import {
  type ReadDocumentRequest,
  readDocument,
} from "../../../src/lib/documents/read/read-document.ts";
import { readOne } from "../../../src/lib/documents/read/read-one.ts";
import type { ReadFacts } from "../../../src/lib/documents/read/reader.ts";
import { READERS } from "../../../src/lib/documents/read/readers.ts";
import { AppError } from "../../../src/lib/kernel/errors.ts";

export interface ReadWorld {
  /** Writes the bytes to a file and reads that. */
  read(
    name: string,
    content: string | Uint8Array,
    options?: Partial<ReadDocumentRequest>,
  ): Promise<DocumentText>;
  /** The error it ends with. */
  fail(
    name: string,
    content: string | Uint8Array,
    options?: Partial<ReadDocumentRequest>,
  ): Promise<AppError>;
  close(): void;
}

export function openReadWorld(): ReadWorld {
  const folder = mkdtempSync(join(tmpdir(), "worker-service-documents-"));
  let files = 0;
  const read: ReadWorld["read"] = (name, content, options = {}) => {
    const path = join(folder, String(files++));
    writeFileSync(path, content);
    return readDocument({ path, name, signal: new AbortController().signal, ...options });
  };
  return {
    read,
    fail: async (name, content, options) => {
      const result = await read(name, content, options).catch((error: unknown) => error);
      if (result instanceof AppError) return result;
      throw result instanceof Error ? result : new Error(`${name} was read`);
    },
    close: () => rmSync(folder, { recursive: true }),
  };
}

/** Everything that came out, a cell as a tab, a block as a line. */
export const textOf = ({ blocks }: Pick<DocumentText, "blocks">): string =>
  blocks.map(blockText).join("\n");

function blockText(block: Block): string {
  if (block.kind === "section") return block.title;
  if (block.kind === "table")
    return [block.header ?? [], ...block.rows].map((row) => row.join("\t")).join("\n");
  return block.text;
}

/** Reads in this process, without the child: for what the readers find, not for how they are held. */
export async function readHere(
  name: string,
  content: string | Uint8Array,
  limits: Partial<ReadLimits> = {},
): Promise<{ type: string; blocks: Block[]; warnings: readonly Warning[] } & ReadFacts> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  const all = { ...READ_LIMITS, ...limits };
  const collected = collectBlocks(all);
  const out = openOutput(all, (line) => collected.add(`${line}\n`));
  const allowance = {
    inflatedBytes: all.sheetInflatedBytesMax,
    attachments: all.attachmentsMax,
  };
  const read = await readOne({ bytes, name, limits: all, out, depth: 0, allowance }, READERS);
  return { ...read, blocks: [...collected.finish().blocks], warnings: out.warnings };
}
