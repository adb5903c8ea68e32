import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import type { Block } from "../../../src/lib/documents/block.ts";
import type { DocumentText } from "../../../src/lib/documents/read/document-text.ts";
import { readDocument } from "../../../src/lib/documents/read/read-document.ts";
import { AppError } from "../../../src/lib/kernel/errors.ts";

/*
 * Documents of other projects, each with its expected outcome. They lie beside the repository where it is developed, and
 * are never part of it.
 */

const FOLDER = fileURLToPath(new URL("../../../../shared/data/documents/", import.meta.url));
const MANIFEST = `${FOLDER}MANIFEST.json`;
/** On a busy machine; most take a third of a second. */
const TIME_LIMIT_MS = 60_000;
const CHILD_PEAK_BYTES_MAX = 350 * 2 ** 20;

const EntrySchema = z.object({
  file: z.string(),
  sha256: z.string(),
  outcome: z.string(),
  accept: z.array(z.string()).default([]),
  must_include: z.array(z.string()).default([]),
  must_not_include: z.array(z.string()).default([]),
});

type Entry = z.infer<typeof EntrySchema>;

const entries = existsSync(MANIFEST)
  ? z
      .array(EntrySchema)
      .parse(JSON.parse(readFileSync(MANIFEST, "utf8")))
      .filter(({ outcome }) => outcome !== "-" && outcome !== "expected output")
  : [];
if (entries.length === 0)
  console.warn("shared test documents not found: document fixture tests skipped");

const OUTCOMES: Readonly<Record<string, string>> = {
  document_no_text: "no_text",
  document_encrypted: "encrypted",
  document_corrupt: "corrupt",
  document_zip_bomb: "bomb",
  document_unsupported_type: "unsupported",
  document_legacy_format: "unsupported",
};

async function read(file: string): Promise<{ outcome: string; document?: DocumentText }> {
  try {
    const document = await readDocument({
      path: `${FOLDER}${file}`,
      name: file,
      limits: { durationMsMax: TIME_LIMIT_MS },
      signal: new AbortController().signal,
    });
    return { outcome: document.warnings.length > 0 ? "ok_partial" : "ok", document };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return { outcome: OUTCOMES[error.code] ?? error.code };
  }
}

const textOf = (block: Block): string => {
  if (block.kind === "section") return block.title;
  if (block.kind === "table")
    return [block.header ?? [], ...block.rows]
      .flatMap((row) => [row.join("\t"), row.join(",")])
      .join("\n");
  return block.text;
};

const flat = (text: string): string => text.replace(/\s+/g, " ");

/** Damaged files may come out with or without a warning. */
const accepted = ({ outcome, accept }: Entry): string[] =>
  [outcome, ...accept].flatMap((one) => (one === "ok_recovered" ? ["ok", "ok_partial"] : [one]));

describe.skipIf(entries.length === 0)("documents of other projects", () => {
  test.each(entries)("$file is $outcome", { timeout: TIME_LIMIT_MS * 2 }, async (entry) => {
    const bytes = readFileSync(`${FOLDER}${entry.file}`);
    expect(createHash("sha256").update(bytes).digest("hex")).toBe(entry.sha256);
    const { outcome, document } = await read(entry.file);
    expect(accepted(entry)).toContain(outcome);
    if (document === undefined) return;
    const text = flat(document.blocks.map(textOf).join("\n"));
    for (const snippet of entry.must_include) expect(text).toContain(flat(snippet));
    for (const snippet of entry.must_not_include) expect(text).not.toContain(snippet);
    expect(document.cost.peakBytes).toBeLessThan(CHILD_PEAK_BYTES_MAX);
  });

  test("every token of the Spanish table comes out", async () => {
    const name = "tabula/argentina_diputados_voting_record";
    const wordsOf = (text: string) => new Set(text.match(/[\p{L}\p{N}]+/gu));
    const expected = wordsOf(readFileSync(`${FOLDER}${name}.expected.csv`, "utf8"));
    const { document } = await read(`${name}.pdf`);
    const found = wordsOf(document?.blocks.map(textOf).join("\n") ?? "");
    expect([...expected].filter((word) => !found.has(word))).toEqual([]);
    expect(expected.size).toBe(124);
  });

  test("headings of Spanish Word files are found by the names of their styles", async () => {
    const { document } = await read("generated/docx_spanish_headings.docx");
    const headings = document?.blocks.filter((block) => block.kind === "heading");
    expect(headings).toEqual([
      { kind: "heading", level: 1, text: "Contrato de arrendamiento" },
      { kind: "heading", level: 2, text: "Duración" },
      { kind: "heading", level: 1, text: "Anexo" },
    ]);
  });
});
