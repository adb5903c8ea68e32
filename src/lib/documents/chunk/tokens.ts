import { countTokens as count } from "gpt-tokenizer/encoding/cl100k_base";

/** Names of special tokens are text like any other; by default the tokenizer throws on them. */
const AS_TEXT = { disallowedSpecial: new Set<string>() };

/** The tokenizer needs time that grows with the square of a run without a boundary: runs are counted in parts. */
const RUN_MAX = 256;
const LONG_RUN = new RegExp(`\\S{${RUN_MAX + 1}}|\\s{${RUN_MAX + 1}}`, "u");
const PARTS = new RegExp(`\\s{0,${RUN_MAX}}\\S{1,${RUN_MAX}}|\\s{1,${RUN_MAX}}`, "gu");

/** Tokens of cl100k. A run of more than 256 characters without a boundary counts as its parts. */
export function countTokens(text: string): number {
  if (!LONG_RUN.test(text)) return count(text, AS_TEXT);
  return splitWords(text).reduce((sum, part) => sum + count(part, AS_TEXT), 0);
}

/** Words with the space before them, at most 256 characters each; together they are the text. */
export const splitWords = (text: string): readonly string[] => text.match(PARTS) ?? [];

/** The beginning of a text that has at most `max` tokens, up to a word's end where one fits. */
export function cutTokens(text: string, max: number): string {
  if (countTokens(text) <= max) return text;
  let kept = "";
  let tokens = 0;
  for (const part of splitWords(text)) {
    tokens += countTokens(part);
    if (tokens > max) return kept === "" ? cutCharacters(part, max) : kept;
    kept += part;
  }
  return kept;
}

/** No character has more than four bytes, and no byte more than one token. */
const TOKENS_PER_CHARACTER_MAX = 4;
const cutCharacters = (text: string, max: number): string =>
  [...text].slice(0, Math.floor(max / TOKENS_PER_CHARACTER_MAX)).join("");
