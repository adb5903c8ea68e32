import { Readability } from "@mozilla/readability";
import { parseHTML } from "linkedom";
import { flattenHtml } from "./flatten-html.ts";
import { type HtmlNode, htmlBlocks } from "./html-blocks.ts";
import { decodeTask } from "./read-plain.ts";
import type { ReadFacts, ReadTask } from "./reader.ts";

/** The article of a page when it has one, else all of it. Nothing is fetched, run or drawn. */
export function readHtml(task: ReadTask): ReadFacts {
  const { text, charset } = decodeTask(task, declaredCharset(task));
  const document = parseDocument(text);
  const title = document.title.trim();
  // The search for the article takes its document apart.
  const article = articleOf(document);
  // It also takes a heading away that says the same as the title.
  if (article !== undefined) task.out.block({ kind: "heading", level: 1, text: title });
  for (const block of htmlBlocks(article ?? bodyOf(parseDocument(text)))) task.out.block(block);
  return { meta: { charset, ...(title === "" ? {} : { title }) } };
}

/** All of the text, as the HTML of a mail needs it. */
export function putHtml({ out }: Pick<ReadTask, "out">, html: string): void {
  for (const block of htmlBlocks(bodyOf(parseDocument(html)))) out.block(block);
}

/** Browsers look for it as far. */
const META_BYTES = 1_024;

function declaredCharset({ bytes, declaredCharset: declared }: ReadTask): string | undefined {
  const head = new TextDecoder("latin1").decode(bytes.subarray(0, META_BYTES));
  return declared ?? /<meta[^>]+charset\s*=\s*["']?\s*([\w-]{1,40})/i.exec(head)?.[1];
}

/** What is used of a document of linkedom. */
interface HtmlDocument extends HtmlNode {
  readonly title: string;
  readonly documentElement: HtmlNode | null;
  querySelector(selector: string): HtmlNode | null;
  querySelectorAll(selector: string): Iterable<HtmlElement>;
  createTextNode(text: string): HtmlNode;
}

interface HtmlElement extends HtmlNode {
  getAttribute(name: string): string | null;
  replaceWith(node: HtmlNode): void;
  remove(): void;
}

/** Pictures inside of the page are most of its bytes, and never text. */
const DATA_ADDRESS = /data:[\w/+.-]+[;,][^"'\s>)]*/gi;
const NEVER_TEXT =
  "script, style, iframe, object, embed, svg, noscript, template, link, base, meta[http-equiv], frame, frameset";

/** Runs of spaces mean nothing here, and the search for the article takes a time that grows faster than they do. */
function parseDocument(html: string): HtmlDocument {
  const { document }: { document: HtmlDocument } = parseHTML(
    wrapped(flattenHtml(html.replace(DATA_ADDRESS, "")).replace(/\s{2,}/g, " ")),
  );
  for (const element of document.querySelectorAll(NEVER_TEXT)) element.remove();
  for (const image of document.querySelectorAll("img")) {
    const alt = image.getAttribute("alt")?.trim() ?? "";
    image.replaceWith(document.createTextNode(alt === "" ? "" : ` ${alt} `));
  }
  return document;
}

/** A fragment alone has no body for the parser. */
const wrapped = (html: string): string =>
  /<(?:html|body|head)\b/i.test(html) ? html : `<!doctype html><html><body>${html}</body></html>`;

const bodyOf = (document: HtmlDocument): HtmlNode =>
  document.querySelector("body") ?? document.documentElement ?? document;

/** Readability also cuts pages that have no article down to one of their corners. */
const ARTICLE_SHARE_MIN = 0.3;

function articleOf(document: HtmlDocument): HtmlNode | undefined {
  const body = bodyOf(document);
  const all = lengthOf(body);
  if (all === 0) return undefined;
  const article = new Readability<HtmlNode>(document, {
    serializer: (node: HtmlNode) => node,
  }).parse()?.content;
  if (article === undefined || article === null) return undefined;
  return lengthOf(article) < all * ARTICLE_SHARE_MIN ? undefined : article;
}

const lengthOf = (node: HtmlNode): number => (node.textContent ?? "").replace(/\s+/g, "").length;
