import type { OfficeContentNode } from "officeparser";
import type { Block, HeadingBlock } from "../block.ts";

type Levels = ReadonlyMap<string, number>;

/** Blocks of a tree of nodes; what stands inside of paragraphs joins their text. `levels`: style → level of heading. */
export function* officeBlocks(
  nodes: readonly OfficeContentNode[],
  levels: Levels,
  page?: number,
): Generator<Block> {
  for (const node of nodes) {
    if (node.type === "slide") yield* slideBlocks(node, levels);
    else if (node.type === "table") yield tableOf(node, page);
    else if (isText(node)) yield { ...textBlock(node, levels), ...on(page) };
    else if (node.type === "image") yield* alternativeText(node.metadata?.altText, page);
    else yield* officeBlocks(node.children ?? [], levels, page);
    if (node.type !== "slide") yield* noteBlocks(node, levels, page);
  }
}

const on = (page: number | undefined): { page?: number } => (page === undefined ? {} : { page });

const TEXTS = ["heading", "paragraph", "list", "text", "code", "definitionTerm"] as const;
type TextNode = Extract<OfficeContentNode, { type: (typeof TEXTS)[number] }>;

const isText = (node: OfficeContentNode): node is TextNode =>
  (TEXTS as readonly string[]).includes(node.type);

function textBlock(node: TextNode, levels: Levels): Block {
  const text = textOf(node);
  const level = levelOf(node, levels);
  if (level !== undefined) return { kind: "heading", level, text };
  return {
    kind: "paragraph",
    text: node.type === "list" && text.trim() !== "" ? `- ${text}` : text,
  };
}

function levelOf(node: TextNode, levels: Levels): HeadingBlock["level"] | undefined {
  const style =
    node.metadata !== undefined && "style" in node.metadata ? node.metadata.style : undefined;
  const byStyle = style === undefined ? undefined : levels.get(style);
  const level = node.type === "heading" ? (node.metadata?.level ?? 1) : byStyle;
  if (level === undefined) return undefined;
  return Math.min(Math.max(Math.trunc(level), 1), 6) as HeadingBlock["level"]; // between 1 and 6 now
}

/** Without what belongs to it and stands elsewhere, such as notes. */
function textOf(node: OfficeContentNode): string {
  if (node.type === "break") return "\n";
  if (node.type === "image") return node.metadata?.altText ?? "";
  if (node.children === undefined || node.children.length === 0) return node.text ?? "";
  const separator = node.children.some(({ type }) => isBlock(type)) ? "\n" : "";
  return node.children.map(textOf).join(separator);
}

const isBlock = (type: OfficeContentNode["type"]): boolean =>
  ["paragraph", "heading", "list", "table", "row", "cell"].includes(type);

/** The first row is the header: a chunk of a table that was divided is of little use without. */
function tableOf(node: OfficeContentNode, page: number | undefined): Block {
  const rows = (node.children ?? [])
    .filter(({ type }) => type === "row")
    .map((row) => (row.children ?? []).map((cell) => textOf(cell).trim()))
    .filter((row) => row.some((cell) => cell !== ""));
  const [header, ...rest] = rows;
  return { kind: "table", ...(header === undefined ? {} : { header }), rows: rest, ...on(page) };
}

function* slideBlocks(
  node: Extract<OfficeContentNode, { type: "slide" }>,
  levels: Levels,
): Generator<Block> {
  const page = node.metadata?.slideNumber ?? 1;
  const heading = (node.children ?? []).find(({ type }) => type === "heading");
  const title = heading === undefined ? "" : textOf(heading).trim();
  yield { kind: "section", sort: "slide", title: title === "" ? String(page) : title, page };
  yield* officeBlocks(node.children ?? [], levels, page);
  yield* noteBlocks(node, levels, page);
}

function* alternativeText(text: string | undefined, page: number | undefined): Generator<Block> {
  if (text !== undefined) yield { kind: "paragraph", text, ...on(page) };
}

/** Footnotes, endnotes and the notes of a speaker, below what they belong to. */
function* noteBlocks(
  node: OfficeContentNode,
  levels: Levels,
  page: number | undefined,
): Generator<Block> {
  for (const note of notesBelow(node)) {
    if (note.children === undefined || note.children.length === 0)
      yield { kind: "paragraph", text: note.text ?? "", ...on(page) };
    else yield* officeBlocks(note.children, levels, page);
  }
}

function notesBelow(node: OfficeContentNode): OfficeContentNode[] {
  const below = node.type === "slide" ? [] : (node.children ?? []).flatMap(notesBelow);
  return [...(node.notes ?? []), ...below];
}
