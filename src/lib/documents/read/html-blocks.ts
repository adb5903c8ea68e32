import type { Block, HeadingBlock } from "../block.ts";

/** What is used of a node of linkedom; its own types are those of a browser. */
export interface HtmlNode {
  /** 1 element, 3 text, 9 document. */
  readonly nodeType: number;
  readonly nodeName: string;
  readonly textContent: string | null;
  readonly firstChild: HtmlNode | null;
  readonly nextSibling: HtmlNode | null;
  readonly parentNode: HtmlNode | null;
}

const ELEMENT = 1;
const TEXT = 3;

const names = (list: string): ReadonlySet<string> => new Set(list.split(/\s+/));

const BLOCKS = names(
  `ADDRESS ARTICLE ASIDE BLOCKQUOTE BODY CAPTION CENTER DD DETAILS DIALOG DIV DL DT FIELDSET FIGCAPTION FIGURE FOOTER FORM
  HEADER HGROUP HR HTML LEGEND LI MAIN NAV OL OPTION P PRE SECTION SUMMARY TABLE TBODY TFOOT THEAD UL`,
);
const UNSEEN = names("HEAD SCRIPT STYLE TEMPLATE NOSCRIPT IFRAME OBJECT EMBED SVG TITLE");

export interface Step {
  readonly node: HtmlNode;
  readonly name: string;
  /** False on the way out. */
  readonly isOpen: boolean;
}

/** A node and all below it, in order, without recursion: a page can nest as deep as it likes. */
export function* walkHtml(
  root: HtmlNode,
  isEntered: (node: HtmlNode, name: string) => boolean = () => true,
): Generator<Step> {
  let node = root;
  for (;;) {
    yield { node, name: node.nodeName.toUpperCase(), isOpen: true };
    const inside = isEntered(node, node.nodeName.toUpperCase()) ? node.firstChild : null;
    if (inside !== null) {
      node = inside;
      continue;
    }
    yield { node, name: node.nodeName.toUpperCase(), isOpen: false };
    while (node !== root && node.nextSibling === null) {
      node = node.parentNode ?? root;
      yield { node, name: node.nodeName.toUpperCase(), isOpen: false };
    }
    if (node === root) return;
    node = node.nextSibling ?? root;
  }
}

/** Headings, paragraphs and tables. Whether a thing is shown is not asked: styles are not read. */
export function* htmlBlocks(root: HtmlNode): Generator<Block> {
  const tables = new Map<HtmlNode, Block>();
  const isWhole = (node: HtmlNode, name: string): boolean =>
    UNSEEN.has(name) || isHeading(name) || (name === "TABLE" && findTable(node, tables));
  let text = "";
  for (const { node, name, isOpen } of walkHtml(root, (at, of) => !isWhole(at, of))) {
    if (node.nodeType === TEXT) text += isOpen ? inline(node.textContent ?? "") : "";
    if (node.nodeType !== ELEMENT || UNSEEN.has(name)) continue;
    if (BLOCKS.has(name) || isHeading(name)) {
      if (text.trim() !== "" && text !== ITEM) yield { kind: "paragraph", text };
      text = isOpen && name === "LI" ? ITEM : "";
    }
    if (isOpen && isHeading(name))
      yield { kind: "heading", level: levelOf(name), text: inline(node.textContent ?? "") };
    else if (isOpen) text += separator(name, text);
    const table = isOpen ? undefined : tables.get(node);
    if (table !== undefined) yield table;
  }
  if (text.trim() !== "") yield { kind: "paragraph", text };
}

const ITEM = "- ";

/** In tables that only lay out a page. */
function separator(name: string, text: string): string {
  const isAtStart = text === "" || text.endsWith("\n");
  if (name === "BR") return "\n";
  if (name === "TR") return isAtStart ? "" : "\n";
  return (name === "TD" || name === "TH") && !isAtStart ? "\t" : "";
}

/** Line ends in the source are spaces. */
const inline = (text: string): string => text.replace(/\s+/g, " ");

const isHeading = (name: string): boolean => /^H[1-6]$/.test(name);

const levelOf = (name: string): HeadingBlock["level"] => Number(name[1]) as HeadingBlock["level"]; // H1 to H6

/** Whether it holds data, which is then noted: two rows, one of two cells, and no table inside. */
function findTable(table: HtmlNode, tables: Map<HtmlNode, Block>): boolean {
  const rows: string[][] = [];
  for (const { node, name, isOpen } of walkHtml(table)) {
    if (!isOpen || node === table) continue;
    if (name === "TABLE") return false;
    if (name === "TR") rows.push([]);
    if (name === "TD" || name === "TH") rows.at(-1)?.push(inline(node.textContent ?? "").trim());
  }
  const [header, ...rest] = rows.filter((row) => row.some((cell) => cell !== ""));
  if (header === undefined || rest.length === 0 || rows.every((row) => row.length < 2))
    return false;
  tables.set(table, { kind: "table", header, rows: rest });
  return true;
}
