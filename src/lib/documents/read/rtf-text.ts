/** Groups whose text is not shown, besides all that begin with `\*`. */
const UNSEEN = new Set([
  "fonttbl",
  "colortbl",
  "stylesheet",
  "info",
  "pict",
  "object",
  "header",
  "footer",
]);
const LINE_ENDS = new Set(["par", "line", "row", "sect", "page"]);
/** Groups in groups; deeper ones are not entered. */
const DEPTH_MAX = 1_000;

const TOKEN =
  /\\([a-z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-f]{2})|\\([^a-z])|([{}])|[\r\n]+|([^\\{}\r\n]+)/gi;

/** The text of RTF: its words and line ends, without its layout. Enough for mails that carry nothing else. */
export function rtfText(bytes: Uint8Array): string {
  const source = new TextDecoder("latin1").decode(bytes);
  const ansi = new TextDecoder("windows-1252");
  const groups: { isSeen: boolean; skipped: number }[] = [];
  let group = { isSeen: true, skipped: 1 };
  let pending = 0;
  let text = "";
  const put = (shown: string) => {
    const rest = Math.min(pending, shown.length);
    pending -= rest; // stands in for a character that was given as a number
    if (group.isSeen) text += shown.slice(rest);
  };
  for (const [, word, number, hex, symbol, brace, plain] of source.matchAll(TOKEN)) {
    if (brace === "{") {
      groups.push(group);
      group = { ...group, isSeen: group.isSeen && groups.length < DEPTH_MAX };
    } else if (brace === "}") group = groups.pop() ?? group;
    else if (plain !== undefined) put(plain);
    else if (hex !== undefined) put(ansi.decode(Uint8Array.of(Number.parseInt(hex, 16))));
    else if (symbol === "*") group.isSeen = false;
    else if (symbol !== undefined) put(symbol === "~" ? " " : /[\\{}]/.test(symbol) ? symbol : "");
    else if (word === "u" && number !== undefined) {
      put(String.fromCharCode((Number(number) + 0x10000) % 0x10000));
      pending = group.skipped;
    } else if (word === "uc") group.skipped = Number(number ?? 1);
    else if (word === "tab" || word === "cell") put("\t");
    else if (word !== undefined && LINE_ENDS.has(word)) put("\n");
    else if (word !== undefined && UNSEEN.has(word)) group.isSeen = false;
  }
  return text;
}
