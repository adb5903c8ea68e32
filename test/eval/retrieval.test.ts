import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createLexHash } from "../../src/lib/documents/embed/lex-hash.ts";
import { readCorpus } from "./read-corpus.ts";
import {
  LANGUAGES,
  type Method,
  measure,
  misspell,
  openRetrievalWorld,
  scoreOf,
} from "./retrieval-world.ts";

let world: Awaited<ReturnType<typeof openRetrievalWorld>>;
beforeAll(async () => {
  world = await openRetrievalWorld(createLexHash());
}, 120_000);
afterAll(() => world.close());

/** A quarter of the questions; `npm run eval:retrieval` asks all of them. */
const EVERY = 4;
/** Two questions of those: what a change of one word in a paragraph may do. */
const EPSILON = 2 / 64;

describe.each(LANGUAGES)("the questions in %s", (language) => {
  test("are at least 150 over at least 100 paragraphs, none of them twice", () => {
    const paragraphs = readCorpus(language);
    const questions = paragraphs.flatMap((it) => it.questions.map(({ text }) => text));
    expect(paragraphs.length).toBeGreaterThanOrEqual(100);
    expect(questions.length).toBeGreaterThanOrEqual(150);
    expect(new Set(questions).size).toBe(questions.length);
    expect(new Set(paragraphs.map(({ id }) => id)).size).toBe(paragraphs.length);
  });

  test("are answered by words and vectors together at least as well as by either alone", async () => {
    const scores = (method: Method) => measure(world, { language, method, every: EVERY });
    const hybrid = await scores("hybrid, 3 : 1");
    for (const leg of ["full text, any word (OR)", "vectors"] as const) {
      const alone = await scores(leg);
      expect(hybrid.at5).toBeGreaterThanOrEqual(alone.at5 - EPSILON);
      expect(hybrid.mrr).toBeGreaterThanOrEqual(alone.mrr - EPSILON);
    }
  }, 180_000);

  test("with misspelt words are answered better than by words alone", async () => {
    const scores = (method: Method) =>
      measure(world, { language, method, kind: "bent words", change: misspell, every: EVERY });
    const [hybrid, words] = [
      await scores("hybrid, 3 : 1"),
      await scores("full text, any word (OR)"),
    ];
    expect(hybrid.at5).toBeGreaterThan(words.at5);
    expect(hybrid.mrr).toBeGreaterThan(words.mrr);
  }, 180_000);
});

test("a misspelt question keeps its letters, and changes every longer word", () => {
  expect(misspell("¿Cuándo vence el contrato?")).not.toContain("contrato");
  const sorted = (text: string) => [...text].sort().join("");
  expect(sorted(misspell("¿Cuándo vence el contrato?"))).toBe(sorted("¿Cuándo vence el contrato?"));
});

test("scores count ranks", () => {
  expect(scoreOf([1, 2, undefined, 5])).toEqual({ at1: 0.25, at5: 0.75, mrr: (1 + 0.5 + 0.2) / 4 });
});
