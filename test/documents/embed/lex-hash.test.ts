import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  createLexHash,
  createLexHasher,
  fold,
  h32,
  LEX_HASH_DIMENSIONS,
} from "../../../src/lib/documents/embed/lex-hash.ts";
import { STOP_WORDS } from "../../../src/lib/documents/embed/stop-words.ts";

/** Golden values: whoever changes one makes every stored vector useless, and needs another embedder id. */
const embed = createLexHasher();
const signal = new AbortController().signal;

const nonZero = (vector: Float32Array | null): [number, number][] =>
  [...(vector ?? [])].flatMap((value, place) => (value === 0 ? [] : [[place, value]]));

const dot = (a: Float32Array | null, b: Float32Array | null): number =>
  (a ?? new Float32Array()).reduce((sum, value, at) => sum + value * (b?.[at] ?? 0), 0);

/** The definition of docs/reference/embedders.md, step by step; zeros where there is no vector. */
function defined(text: string): number[] {
  const sums = new Map<string, number>();
  const add = (name: string, weight: number) => sums.set(name, (sums.get(name) ?? 0) + weight);
  const folded = text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  for (const word of folded.match(/[\p{L}\p{N}]+/gu) ?? []) {
    if (STOP_WORDS.has(word)) continue;
    add(`w:${word}`, 1);
    add(`s:${word.slice(0, 5)}`, 1);
    for (let at = 0; at + 4 <= word.length + 2; at += 1)
      add(`c:${`^${word}$`.slice(at, at + 4)}`, 0.25);
  }
  const values = Array.from({ length: LEX_HASH_DIMENSIONS }, () => 0);
  for (const [name, sum] of sums)
    values[h32(name, 0) % 1536]! += (h32(name, 0x51ed27) % 2 === 1 ? 1 : -1) * Math.sqrt(sum);
  const length = Math.hypot(...values);
  return values.map((value) => (length === 0 ? 0 : value / length));
}

test("the stop words are those of the definition", () => {
  const sorted = [...STOP_WORDS].sort();
  expect(sorted).toHaveLength(1816);
  expect(createHash("sha256").update(sorted.join("\n")).digest("hex")).toBe(
    "142233c84e4276ce3b3c89fcfb5102b4660d026331ab4ce5f263dbc515c2c91b",
  );
});

test.each([
  ["", 2872998923],
  ["a", 444641715],
  ["w:contrato", 3737820465],
  ["c:^con", 2801163427],
])("hashes %j to its golden value", (text, expected) => {
  expect(h32(text, 0)).toBe(expected);
});

test("folds accents and case away", () => {
  expect(fold("Año ÚLTIMO niñez")).toBe("ano ultimo ninez");
});

describe("a vector", () => {
  test.each([
    [
      "El contrato de alquiler",
      18,
      [
        [2, -0.365148],
        [163, 0.182574],
        [167, -0.365148],
        [359, 0.182574],
        [514, 0.182574],
        [570, -0.182574],
        [587, 0.365148],
        [931, 0.182574],
      ],
    ],
    [
      "Año 2024: pago, PAGO",
      14,
      [
        [12, 0.431331],
        [253, 0.152499],
        [436, -0.215666],
      ],
    ],
  ])("of %j has its golden values", (text, count, first) => {
    const values = nonZero(embed(text));
    expect(values).toHaveLength(count);
    for (const [at, [place, value]] of first.entries()) {
      expect(values[at]?.[0]).toBe(place);
      expect(values[at]?.[1]).toBeCloseTo(value as number, 6);
    }
  });

  test.each(["de la que el", "", " \n.,;—!", "the of and"])("of %j does not exist", (text) => {
    expect(embed(text)).toBeNull();
  });

  test("has length 1 and 1536 places, whatever the text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 300 }), (text) => {
        const vector = embed(text);
        if (vector === null) return;
        expect(vector).toHaveLength(LEX_HASH_DIMENSIONS);
        expect(dot(vector, vector)).toBeCloseTo(1, 5);
      }),
      { numRuns: 200 },
    );
  });

  test("is that of the definition, written word for word", () => {
    const letter = fc.constantFrom(..."aáÁeñÑlcontrato pagoΣσς'’İ\u0301\u0308ﬁ½①日本 ١2.");
    fc.assert(
      fc.property(fc.string({ unit: fc.oneof(letter, fc.string({ unit: "binary" })) }), (text) => {
        const expected = defined(text);
        for (const [place, value] of (embed(text) ?? expected).entries())
          expect(value).toBeCloseTo(expected[place] ?? 0, 6);
      }),
      { numRuns: 300 },
    );
  });

  test("does not depend on the texts before it", () => {
    const texts = fc.array(fc.string({ unit: fc.constantFrom(..."abcñé 1") }), { maxLength: 20 });
    fc.assert(
      fc.property(texts, (list) => {
        const used = createLexHasher();
        for (const text of list) expect(used(text)).toEqual(createLexHasher()(text));
      }),
      { numRuns: 100 },
    );
  });

  test("stays the same when the memory of words overflows", () => {
    const used = createLexHasher();
    const before = used("cláusula de rescisión anticipada");
    for (let i = 0; i < 30_000; i += 1) used(`palabra${i}`);
    expect(used("cláusula de rescisión anticipada")).toEqual(before);
  });

  test("comes close to that of a misspelling, and not to that of another subject", () => {
    const right = embed("rescisión anticipada del contrato de arrendamiento");
    expect(dot(right, embed("recisión anticipda del contarto"))).toBeGreaterThan(0.2);
    expect(dot(right, embed("impresora sin papel"))).toBeLessThan(0.1);
  });

  test("of a word of 200,000 letters takes less than a second", () => {
    const startedAt = performance.now();
    expect(embed("á".repeat(200_000))).not.toBeNull();
    expect(performance.now() - startedAt).toBeLessThan(1000);
  });
});

describe("the embedder", () => {
  test("answers each text in its place", async () => {
    const [contract, nothing, invoice] = await createLexHash().embed(
      ["contrato", "de la", "factura"],
      signal,
    );
    expect(contract).toEqual(embed("contrato"));
    expect(nothing).toBeNull();
    expect(invoice).toEqual(embed("factura"));
  });

  test("stops when its signal aborts", async () => {
    await expect(createLexHash().embed(["contrato"], AbortSignal.abort())).rejects.toMatchObject({
      code: "deadline_exceeded",
    });
  });
});
