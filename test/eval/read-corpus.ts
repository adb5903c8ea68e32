import { readFileSync } from "node:fs";

/** In other words than the text, or in its words bent, derived, misspelt and out of order. */
export type QuestionKind = "other words" | "bent words";

export interface Question {
  readonly kind: QuestionKind;
  readonly text: string;
}

export interface Paragraph {
  readonly id: string;
  readonly text: string;
  readonly questions: readonly Question[];
}

const MARKS: Readonly<Record<string, QuestionKind>> = { "? ": "other words", "~ ": "bent words" };
const kindOf = (line: string): QuestionKind | undefined => MARKS[line.slice(0, 2)];

/** `# id`, a paragraph, and its questions behind `? ` or `~ `. All of our own making. */
export function readCorpus(language: "es" | "en"): readonly Paragraph[] {
  const file = readFileSync(new URL(`corpus.${language}.txt`, import.meta.url), "utf8");
  return file.split(/^# /m).slice(1).map(readParagraph);
}

function readParagraph(block: string): Paragraph {
  const [id = "", ...lines] = block.trim().split("\n");
  const questions = lines.flatMap((line) => {
    const kind = kindOf(line);
    return kind === undefined ? [] : [{ kind, text: line.slice(2) }];
  });
  return { id, text: lines.filter((line) => kindOf(line) === undefined).join(" "), questions };
}
