import type { Chunk } from "../chunk.ts";

/** 60 of the most frequent words of each language that the other one does not write. */
const SPANISH = new Set(
  (
    "de la que el en y los del se las por un para con una su al es lo como más pero sus le ya o este sí porque esta " +
    "entre cuando muy sin sobre también hasta hay donde quien desde todo nos durante todos uno les ni contra otros " +
    "qué cómo cuál quién cuándo dónde fue debe ser está"
  ).split(" "),
);
const ENGLISH = new Set(
  (
    "the of and to in is was for that on with by it at from his are were be an this which what who when where how did " +
    "have has not or but they you we will can their been if would there all your must may each than any these its our " +
    "should does into only other after do"
  ).split(" "),
);

/** Fewer say nothing about the language. */
const HITS_MIN = 3;

/** Spanish, English, or neither for sure. */
export function languageOf(text: string): Chunk["language"] {
  let [spanish, english] = [0, 0];
  for (const word of text.toLowerCase().match(/\p{L}+/gu) ?? []) {
    if (SPANISH.has(word)) spanish += 1;
    else if (ENGLISH.has(word)) english += 1;
  }
  if (spanish === english || Math.max(spanish, english) < HITS_MIN) return "und";
  return spanish > english ? "es" : "en";
}
