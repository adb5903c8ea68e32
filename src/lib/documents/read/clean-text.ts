/** Latin words with one separator between them: what most cells and lines are, and nothing to do. */
const CLEAN =
  /^[!-~\u00a1-\u024f\u2010-\u2027\u2030-\u205e\u20ac]+(?:[ \n\t][!-~\u00a1-\u024f\u2010-\u2027\u2030-\u205e\u20ac]+)*$/;
const LINE_ENDS = /\r\n?|[\u2028\u2029\f\v\u0085]/g;
/** What Postgres refuses (NUL), and what no reader wants to see. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
const CONTROLS = /[\u0000-\u0008\u000e-\u001f\u007f\ufeff\ufffe\uffff]/g;
const SPACES = /[^\S\n\t]+/g;
const SPACES_AROUND_TABS = /[^\S\n]*\t[^\S\n]*/g;
const SPACES_AROUND_LINE_ENDS = /[^\S\n]*\n[^\S\n]*/g;

/**
 * What every text goes through on its way out: no control characters, no lone surrogates, `\n` as line end, single
 * spaces inside of lines, at most one empty line. A run of spaces with a tab in it, the mark between cells, is one tab.
 */
export function cleanText(text: string): string {
  if (CLEAN.test(text)) return text;
  return text
    .toWellFormed()
    .replace(LINE_ENDS, "\n")
    .replace(CONTROLS, "")
    .replace(SPACES, " ")
    .replace(SPACES_AROUND_TABS, "\t")
    .replace(SPACES_AROUND_LINE_ENDS, "\n")
    .replace(/\n{3,}/g, "\n\n")
    .trim();
}

/** For titles, cells and headings: one line. */
export const cleanLine = (text: string): string => cleanText(text).replace(/[\n\t]+/g, " ");
