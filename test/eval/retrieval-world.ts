import { randomUUID } from "node:crypto";
import { PGlite } from "@electric-sql/pglite";
import { vector } from "@electric-sql/pglite/vector";
import { applyMigrations, readMigrations } from "../../local/backends/migrations.ts";
import type { Block } from "../../src/lib/documents/block.ts";
import { chunkBlocks } from "../../src/lib/documents/chunk/chunk-blocks.ts";
import type { Chunk } from "../../src/lib/documents/chunk.ts";
import type { Embedder } from "../../src/lib/documents/embedder.ts";
import { type QuestionKind, readCorpus } from "./read-corpus.ts";

export const LANGUAGES = ["en", "es"] as const;
export type Language = (typeof LANGUAGES)[number];

/** The legs of the search: weights of words and vectors in `worker.document_search`. */
export const METHODS = {
  "full text, all words (AND)": undefined,
  "full text, any word (OR)": { words: 1, vectors: 0 },
  vectors: { words: 0, vectors: 1 },
  "hybrid, 3 : 1": { words: 3, vectors: 1 },
} as const;
export type Method = keyof typeof METHODS;

const HITS = 10;
const ROWS_PER_CALL = 64;
const FLOOR = 0.08;
const signal = new AbortController().signal;

/** The corpora as two workspaces of a migrated database, chunked and embedded as the pipeline does it. */
export async function openRetrievalWorld(embedder: Embedder) {
  const db = await PGlite.create({ extensions: { vector } });
  const exec = async (sql: string) => (await db.exec(sql)).at(-1)?.rows ?? [];
  await applyMigrations({ exec }, readMigrations());
  const corpora = await Promise.all(LANGUAGES.map((language) => load(db, embedder, language)));
  const corpusOf = (language: Language) => {
    const corpus = corpora.find((it) => it.language === language);
    if (corpus === undefined) throw new Error(`no corpus in ${language}`);
    return corpus;
  };
  /** 1 for the best hit; undefined when the right paragraph is not among the first ten. */
  const rank = async (language: Language, method: Method, question: string, answer: number) => {
    const { workspace } = corpusOf(language);
    const [embedding = null] = await embedder.embed([question], signal);
    const weights = METHODS[method];
    const found =
      weights === undefined
        ? await findAll(db, workspace, language, question)
        : await find(db, { workspace, question, embedding, model: embedder.id, ...weights });
    const at = found.indexOf(answer);
    return at === -1 ? undefined : at + 1;
  };
  const known = new Map<string, number | undefined>();
  const rankOnce: typeof rank = async (...asked) => {
    const key = asked.join("|");
    if (!known.has(key)) known.set(key, await rank(...asked));
    return known.get(key);
  };
  const questionsOf = (language: Language) => corpusOf(language).questions;
  return { rank: rankOnce, questionsOf, close: () => db.close() };
}

/** Every paragraph is a chunk: sections keep them apart, and a section without a title gives nothing away. */
async function load(db: PGlite, embedder: Embedder, language: Language) {
  const paragraphs = readCorpus(language);
  const chunks = chunkBlocks(
    paragraphs.flatMap(({ text }): Block[] => [
      { kind: "section", sort: "attachment", title: "" },
      { kind: "paragraph", text },
    ]),
  );
  if (chunks.length !== paragraphs.length) throw new Error("a paragraph is not one chunk");
  const workspace = randomUUID();
  await stage(db, embedder, workspace, chunks);
  const questions = paragraphs.flatMap(({ questions }, answer) =>
    questions.map(({ kind, text }) => ({ kind, question: text, answer })),
  );
  return { language, workspace, questions };
}

async function stage(db: PGlite, embedder: Embedder, workspace: string, chunks: readonly Chunk[]) {
  const [document, item] = [randomUUID(), randomUUID()];
  await db.query(
    `insert into worker.documents (id, workspace_id, name, storage, container, path, state, claims, claim_item,
       claim_fence, work_item, lease_until)
     values ($1, $2, 'corpus', 'azure', 'documents', $3, 'processing', 1, $4, 1, $4, now() + interval '1 hour')`,
    [document, workspace, `${workspace}/corpus`, item],
  );
  const vectors = await embedder.embed(
    chunks.map(({ embedText }) => embedText),
    signal,
  );
  const rows = chunks.map((chunk, index) => ({
    ...chunk,
    vector: literal(vectors[index] ?? null),
  }));
  for (let from = 0; from < rows.length; from += ROWS_PER_CALL)
    await db.query("select worker.document_put_chunks($1, $2, 1, $3, $4, 0, 0, 3600)", [
      document,
      item,
      embedder.id,
      JSON.stringify(rows.slice(from, from + ROWS_PER_CALL)),
    ]);
  await db.query(
    `update worker.documents set state = 'ready', active_version = 1, chunk_count = $2, claim_item = null,
       claim_fence = null where id = $1`,
    [document, chunks.length],
  );
}

const literal = (vector: Float32Array | null): string | null =>
  vector === null
    ? null
    : `[${Array.from(vector, (value) => (value === 0 ? "0" : value.toFixed(6))).join(",")}]`;

interface Query {
  readonly workspace: string;
  readonly question: string;
  readonly embedding: Float32Array | null;
  readonly model: string;
  readonly words: number;
  readonly vectors: number;
}

/** Ordinals, best first. A leg without weight is left out, so that it does not fill up the list. */
async function find(db: PGlite, { workspace, question, embedding, model, words, vectors }: Query) {
  const { rows } = await db.query<{ found: { rows: { ordinal: number; score: number }[] } }>(
    "select worker.document_search($1, $2, $3, $4, $5, $6, $7, null, $8) as found",
    [
      workspace,
      question,
      vectors === 0 ? null : literal(embedding),
      model,
      words,
      vectors,
      FLOOR,
      HITS,
    ],
  );
  return (rows[0]?.found.rows ?? []).filter(({ score }) => score > 0).map(({ ordinal }) => ordinal);
}

/** What one writes first: every word must be there. */
async function findAll(db: PGlite, workspace: string, language: Language, question: string) {
  const { rows } = await db.query<{ ordinal: number }>(
    `select ordinal from worker.document_chunks, websearch_to_tsquery($1::regconfig, $2) q
      where workspace_id = $3 and fts @@ q order by ts_rank(fts, q, 1) desc, ordinal limit ${HITS}`,
    [language === "es" ? "spanish" : "english", question, workspace],
  );
  return rows.map(({ ordinal }) => ordinal);
}

/** Two neighbouring letters change places in every word of five letters or more; the same ones in every run. */
export const misspell = (question: string): string =>
  question.replace(/\p{L}{5,}/gu, (word) => {
    const at = 1 + (word.length % (word.length - 3));
    return `${word.slice(0, at)}${word[at + 1]}${word[at]}${word.slice(at + 2)}`;
  });

export interface Score {
  readonly at1: number;
  readonly at5: number;
  /** Mean of 1 / rank among the first ten. */
  readonly mrr: number;
}

export function scoreOf(ranks: readonly (number | undefined)[]): Score {
  const mean = (gain: (rank: number) => number): number =>
    ranks.reduce((sum: number, rank) => sum + (rank === undefined ? 0 : gain(rank)), 0) /
    ranks.length;
  return {
    at1: mean((rank) => Number(rank <= 1)),
    at5: mean((rank) => Number(rank <= 5)),
    mrr: mean((rank) => 1 / rank),
  };
}

type World = Awaited<ReturnType<typeof openRetrievalWorld>>;

export interface Asked {
  readonly language: Language;
  readonly method: Method;
  readonly kind?: QuestionKind;
  readonly change?: (question: string) => string;
  /** Of so many questions only one. */
  readonly every?: number;
}

export async function measure(world: World, asked: Asked): Promise<Score> {
  const { language, method, kind, every = 1, change = (question: string) => question } = asked;
  const ranks: (number | undefined)[] = [];
  for (const [index, it] of world.questionsOf(language).entries())
    if (index % every === 0 && (kind === undefined || it.kind === kind))
      ranks.push(await world.rank(language, method, change(it.question), it.answer));
  return scoreOf(ranks);
}
