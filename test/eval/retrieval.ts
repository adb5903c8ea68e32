// How often search finds the paragraph that answers a question: own paragraphs and questions, asked in other words than
// those of the text. Through the SQL function of the service, on PGlite with pgvector.
//   npm run eval:retrieval
import { createLexHash } from "../../src/lib/documents/embed/lex-hash.ts";
import {
  type Asked,
  LANGUAGES,
  type Language,
  METHODS,
  type Method,
  measure,
  misspell,
  openRetrievalWorld,
} from "./retrieval-world.ts";

const VARIANTS: Readonly<Record<string, Omit<Asked, "language" | "method">>> = {
  "bent words": { kind: "bent words" },
  "bent words, misspelt": { kind: "bent words", change: misspell },
  "other words": { kind: "other words" },
  "all questions": {},
  "all questions, misspelt": { change: misspell },
};

const embedder = createLexHash();
const world = await openRetrievalWorld(embedder);
const percent = (value: number): string => (100 * value).toFixed(1).padStart(5);

async function reportOn(language: Language, name: string): Promise<void> {
  const variant = VARIANTS[name] ?? {};
  const { length } = world
    .questionsOf(language)
    .filter(({ kind }) => variant.kind === undefined || kind === variant.kind);
  console.log(`\n${language}, ${name}: ${length} questions`);
  console.log(`  ${"".padEnd(28)}   R@1   R@5   MRR`);
  for (const method of Object.keys(METHODS) as Method[]) {
    const { at1, at5, mrr } = await measure(world, { language, method, ...variant });
    console.log(`  ${method.padEnd(28)} ${percent(at1)} ${percent(at5)} ${percent(mrr)}`);
  }
}

console.log(`embedder ${embedder.id}; MRR among the first ten`);
try {
  for (const language of LANGUAGES)
    for (const name of Object.keys(VARIANTS)) await reportOn(language, name);
} finally {
  await world.close();
}
