// The offline embedder over chunks of about 350 tokens, beside a plain hash of their texts and beside the same definition
// written without a memory of words.
//   npm run bench:embed     bar: ≥ 5,000 chunks/s
import { createHash } from "node:crypto";
import { createLexHasher, fold, h32 } from "../../src/lib/documents/embed/lex-hash.ts";
import { STOP_WORDS } from "../../src/lib/documents/embed/stop-words.ts";
import { compare, median, report } from "./compare.ts";

const CHUNKS = 4000;
const WORDS_PER_CHUNK = 230;
const VOCABULARY = 30_000;
const ROUNDS = 5;
const BAR_PER_SECOND = 5000;

/** The same numbers in every run. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const random = randomNumbers(7);
const SYLLABLES =
  "con tra to al qui ler pa go fac tu ra em ple a do se gu ri dad ción men te in ter".split(" ");
const STOPS = [...STOP_WORDS];
const words = Array.from({ length: VOCABULARY }, () =>
  Array.from({ length: 2 + Math.floor(random() * 3) }, () => pick(SYLLABLES, random())).join(""),
);

function pick(list: readonly string[], at: number): string {
  return list[Math.floor(at * list.length)] ?? "";
}

/** Few words are frequent and many are rare, as in a language; about half of a text are stop words. */
const wordOf = (): string =>
  random() < 0.45 ? pick(STOPS, random() ** 4) : pick(words, random() ** 3);
const chunks = Array.from({ length: CHUNKS }, () =>
  Array.from({ length: WORDS_PER_CHUNK }, wordOf).join(" "),
);

function embedNaively(text: string): Float32Array {
  const sums = new Map<string, number>();
  const add = (name: string, weight: number) => sums.set(name, (sums.get(name) ?? 0) + weight);
  for (const word of fold(text).match(/[\p{L}\p{N}]+/gu) ?? []) {
    if (STOP_WORDS.has(word)) continue;
    add(`w:${word}`, 1);
    add(`s:${word.slice(0, 5)}`, 1);
    const bounded = `^${word}$`;
    for (let at = 0; at + 4 <= bounded.length; at += 1) add(`c:${bounded.slice(at, at + 4)}`, 0.25);
  }
  const vector = new Float32Array(1536);
  for (const [name, sum] of sums) {
    const place = h32(name, 0) % 1536;
    vector[place]! += (h32(name, 0x51ed27) & 1 ? 1 : -1) * Math.sqrt(sum);
  }
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}

const each = (work: (text: string) => unknown) => async (): Promise<number> => {
  for (const chunk of chunks) work(chunk);
  return chunks.length;
};

const measured = await compare(
  [
    { name: "sha256 of the text", run: each((text) => createHash("sha256").update(text).digest()) },
    { name: "the definition, word for word", run: each(embedNaively) },
    { name: "lex-hash-v1", run: each(createLexHasher()) },
  ],
  ROUNDS,
);
report(`embedding ${CHUNKS} chunks of ${WORDS_PER_CHUNK} words`, "chunks", measured);

/** By the time of the processor, which other work on the machine does not change. */
function cpuRate(work: (text: string) => unknown): number {
  const before = process.cpuUsage();
  for (const chunk of chunks) work(chunk);
  const { user, system } = process.cpuUsage(before);
  return (chunks.length * 1e6) / (user + system);
}

const embed = createLexHasher();
const rates = Array.from({ length: ROUNDS + 1 }, () => cpuRate(embed)).slice(1);
const rate = median(rates);
console.log(
  `\nlex-hash-v1 by processor time: ${Math.round(rate)} chunks/s; bar of ${BAR_PER_SECOND}: ${rate >= BAR_PER_SECOND ? "kept" : "missed"}`,
);
