import { readFileSync } from "node:fs";

export interface Paragraph {
  readonly id: string;
  readonly text: string;
  /** Asked by somebody who does not know the words of the text. */
  readonly questions: readonly string[];
}

/** `# id`, a paragraph, and `? ` before each of its questions. All of our own making. */
export function readCorpus(language: "es" | "en"): readonly Paragraph[] {
  const file = readFileSync(new URL(`corpus.${language}.txt`, import.meta.url), "utf8");
  return file
    .split(/^# /m)
    .slice(1)
    .map((block) => {
      const [id = "", ...lines] = block.trim().split("\n");
      const isQuestion = (line: string): boolean => line.startsWith("? ");
      return {
        id,
        text: lines.filter((line) => !isQuestion(line)).join(" "),
        questions: lines.filter(isQuestion).map((line) => line.slice(2)),
      };
    });
}
