/** The ways in which a text may read differently from how it looks. Every step is linear in the length of the text. */
export interface Unveiled {
  /** Ways to read the text, each folded: as it stands, with digits as letters, and what was encoded in it. */
  readonly views: readonly string[];
  /** Ids of what was found on the way, such as `hidden.tags`. */
  readonly findings: readonly string[];
}

const JOINERS = /\u034F|[\u00AD\u180E\u200B-\u200F\u2060-\u2064\uFEFF]/g;
/** Inside of Latin words, where no script needs them. */
const INVISIBLE_IN_WORD = /[A-Za-z][\u200B-\u200D\u2060-\u2064\uFEFF]+(?=[A-Za-z])/g;
/** Fewer come from web pages that allow a break. */
const INVISIBLE_MIN = 3;
const BIDI = /[\u202A-\u202E\u2066-\u2069]/g;
const BIDI_OVERRIDE = /[\u202D\u202E]/;
const RIGHT_TO_LEFT = /[\u0590-\u08FF]/;
/** Letters that no font draws; flags of regions end with them, after a black flag. */
const FLAG_EMOJI = /\u{1F3F4}[\u{E0020}-\u{E007F}]{1,8}/gu;
const TAGS = /[\u{E0000}-\u{E007F}]+/gu;

/** Longest encoded run that is looked into; the rest of it says the same. */
const ENCODED_CHARACTERS_MAX = 4096;
const BASE64 = /[A-Za-z0-9+/]{24,}/g;
const HEX = /\b(?:[0-9a-fA-F]{2}[ ]?){16,}/g;
const ENTITIES = /(?:&#(?:x[0-9a-fA-F]{2,4}|\d{2,5});){5,}/g;
/** Encoded texts of one text that are read. */
const ENCODED_MAX = 8;

export function unveil(text: string): Unveiled {
  const tags = [...text.replace(FLAG_EMOJI, "").matchAll(TAGS)].map(([run]) => readTags(run));
  const encoded = readEncoded(text);
  const plain = text.replace(TAGS, "").replace(BIDI, "").replace(JOINERS, "");
  const folded = foldLookalikes(plain);
  const findings = [
    ...hiddenFindings(text),
    ...(tags.some((run) => run.trim().length > 1) ? ["hidden.tags"] : []),
    ...(encoded.length > 0 ? ["encoded.text"] : []),
    ...(/[A-Za-z0-9+/]{400}/.test(text) ? ["encoded.blob"] : []),
    ...(SPACED_LETTERS.test(folded) ? ["hidden.spaced_letters"] : []),
  ];
  const views = [folded, readDigits(folded), ...[...tags, ...encoded].map(foldLookalikes)];
  return { views: [...new Set(views)], findings };
}

function hiddenFindings(text: string): string[] {
  const invisible = text.match(INVISIBLE_IN_WORD)?.length ?? 0;
  const isBidi = BIDI_OVERRIDE.test(text) && !RIGHT_TO_LEFT.test(text);
  return [
    ...(invisible >= INVISIBLE_MIN ? ["hidden.invisible_letters"] : []),
    ...(isBidi ? ["hidden.bidi_override"] : []),
  ];
}

const SPACED_LETTERS = /(?:\b[a-z][ .\-_*]){10,}[a-z]\b/;

const readTags = (run: string): string =>
  [...run].map((tag) => String.fromCharCode((tag.codePointAt(0) ?? 0) - 0xe0000)).join("");

/** Cyrillic and Greek letters that look like Latin ones, in lower case. */
const LOOKALIKES: Readonly<Record<string, string>> = {
  а: "a",
  е: "e",
  о: "o",
  р: "p",
  с: "c",
  у: "y",
  х: "x",
  і: "i",
  ј: "j",
  ѕ: "s",
  ԁ: "d",
  ӏ: "l",
  к: "k",
  м: "m",
  т: "t",
  в: "b",
  н: "h",
  г: "r",
  п: "n",
  α: "a",
  ε: "e",
  ο: "o",
  ρ: "p",
  ι: "i",
  ν: "v",
  τ: "t",
  υ: "u",
  κ: "k",
  χ: "x",
  η: "n",
  ı: "i",
  ł: "l",
  ø: "o",
  ɡ: "g",
};

/** Lower case without accents, lookalikes as Latin letters, one space for any white space but line ends. */
const foldLookalikes = (text: string): string =>
  text
    .normalize("NFKC")
    .toLowerCase()
    .normalize("NFD")
    .replace(/\p{M}+/gu, "")
    .replace(/[\u0131\u0142\u00F8\u0261\u0370-\u052F]/g, (letter) => LOOKALIKES[letter] ?? letter)
    .replace(/[‘’´`]/g, "'")
    .replace(/[^\S\n]+/g, " ");

const DIGITS: Readonly<Record<string, string>> = {
  0: "o",
  1: "i",
  3: "e",
  4: "a",
  5: "s",
  7: "t",
  "@": "a",
  $: "s",
};

/** "1gn0r3" becomes "ignore"; only words that have letters too. */
const readDigits = (folded: string): string =>
  folded.replace(/[a-z013457@$]{4,40}/g, (word) =>
    /[a-z]/.test(word) ? word.replace(/[013457@$]/g, (digit) => DIGITS[digit] ?? digit) : word,
  );

function readEncoded(text: string): string[] {
  const runs = [
    ...candidates(text, BASE64).map((run) => Buffer.from(run, "base64").toString("latin1")),
    ...candidates(text, HEX).map((run) =>
      Buffer.from(run.replaceAll(" ", ""), "hex").toString("latin1"),
    ),
    ...candidates(text, ENTITIES).map(readEntities),
  ];
  return runs.filter(isSentence);
}

const candidates = (text: string, pattern: RegExp): string[] =>
  [...text.matchAll(pattern)]
    .slice(0, ENCODED_MAX)
    .map(([run]) => run.slice(0, ENCODED_CHARACTERS_MAX));

const readEntities = (run: string): string =>
  run.replace(/&#(x?)([0-9a-fA-F]+);/g, (_all, hex, digits) =>
    String.fromCharCode(Number.parseInt(digits, hex === "x" ? 16 : 10)),
  );

/** Words with spaces in ASCII: bytes of anything else look otherwise. */
const isSentence = (decoded: string): boolean => {
  const printable = decoded.match(/[\x20-\x7E\n\u00C0-\u00FF]/g)?.length ?? 0;
  return printable > decoded.length * 0.95 && /[A-Za-z]{3,} [A-Za-z]{2,}/.test(decoded);
};
