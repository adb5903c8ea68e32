import { createHash } from "node:crypto";
import fc from "fast-check";
import { countTokens as bareCount } from "gpt-tokenizer/encoding/cl100k_base";
import { expect, test } from "vitest";
import type { Block } from "../../../src/lib/documents/block.ts";
import { chunkBlocks } from "../../../src/lib/documents/chunk/chunk-blocks.ts";
import { cleanedText } from "../../../src/lib/documents/chunk/outline.ts";
import type { Chunk } from "../../../src/lib/documents/chunk.ts";
import { documents } from "./blocks.ts";

const RUNS = { numRuns: 60 };
const AS_TEXT = { disallowedSpecial: new Set<string>() };
const small = { target: 40, max: 64, overlap: 10 };

const holds = (check: (blocks: Block[], options: typeof small | undefined) => void): void =>
  fc.assert(
    fc.property(documents, fc.constantFrom(small, undefined), (blocks, options) =>
      check(blocks, options),
    ),
    RUNS,
  );
const rangeOf = (text: string, { charFrom, charTo }: Chunk): string => text.slice(charFrom, charTo);

test("without overlap, chunks and the white space between them are the document", () => {
  holds((blocks, options) => {
    const text = cleanedText(blocks);
    let end = 0;
    for (const chunk of chunkBlocks(blocks, { ...options, overlap: 0 })) {
      expect(text.slice(end, chunk.charFrom).trim()).toBe("");
      expect(chunk.charFrom).toBeGreaterThanOrEqual(end);
      end = chunk.charTo;
    }
    expect(text.slice(end).trim()).toBe("");
  });
});

test("the place of a chunk is exact: its text stands there, after the header of a table at the most", () => {
  holds((blocks, options) => {
    const text = cleanedText(blocks);
    const leads = blocks.flatMap((block) => (block.kind === "table" ? (block.header ?? []) : []));
    for (const chunk of chunkBlocks(blocks, options)) {
      const range = rangeOf(text, chunk);
      expect(range.trim()).toBe(range);
      expect(chunk.content.endsWith(range)).toBe(true);
      const lead = chunk.content.slice(0, chunk.content.length - range.length);
      if (lead !== "") expect(leads.length).toBeGreaterThan(0);
    }
  });
});

test("no chunk is empty or has more tokens than the maximum", () => {
  holds((blocks, options) => {
    for (const { content, tokens } of chunkBlocks(blocks, options)) {
      expect(content.trim()).not.toBe("");
      expect(tokens).toBeLessThanOrEqual(options?.max ?? 512);
      expect(bareCount(content, AS_TEXT)).toBeLessThanOrEqual(options?.max ?? 512);
    }
  });
});

test("chunks overlap by no more than allowed, and each begins and ends after the one before", () => {
  holds((blocks, options) => {
    const text = cleanedText(blocks);
    const chunks = chunkBlocks(blocks, options);
    for (const [index, chunk] of chunks.entries()) {
      const before = chunks[index - 1];
      expect(chunk.ordinal).toBe(index);
      if (before === undefined) continue;
      expect(chunk.charFrom).toBeGreaterThan(before.charFrom);
      expect(chunk.charTo).toBeGreaterThan(before.charTo);
      const shared = text.slice(chunk.charFrom, Math.max(chunk.charFrom, before.charTo));
      expect(bareCount(shared, AS_TEXT)).toBeLessThanOrEqual(options?.overlap ?? 40);
    }
  });
});

test("the hash is that of the text that is embedded, which ends with the content", () => {
  holds((blocks, options) => {
    for (const { content, embedText, sha256 } of chunkBlocks(blocks, options)) {
      expect(embedText.endsWith(content)).toBe(true);
      expect(sha256).toBe(createHash("sha256").update(embedText).digest("hex"));
    }
  });
});

test("the same blocks give the same chunks", () => {
  holds((blocks, options) => {
    expect(chunkBlocks(structuredClone(blocks), options)).toEqual(chunkBlocks(blocks, options));
  });
});
