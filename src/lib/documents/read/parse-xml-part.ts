import { SaxesParser } from "saxes";
import { permanent } from "../../kernel/errors.ts";
import { type Allowance, inflateEntry, type ZipEntry } from "./zip-archive.ts";

/** Names come without their prefix: some writers prefix every element. */
export interface XmlHandlers {
  open?(name: string, attributes: Readonly<Record<string, string>>): void;
  close?(name: string): void;
  /** May come in several pieces. */
  text?(text: string): void;
}

/** Office nests some dozens deep; a stack of tags is memory. */
const DEPTH_MAX = 256;

/**
 * Feeds one part of an archive through a streaming parser. No entities but the five of XML, no document types.
 *
 * @throws AppError `document_corrupt`, `document_zip_bomb`, and what the handlers throw.
 */
export function parseXmlPart(
  bytes: Uint8Array,
  entry: ZipEntry,
  allowance: Allowance,
  handlers: XmlHandlers,
): void {
  const parser = new SaxesParser({ position: false, xmlns: false });
  let depth = 0;
  parser.on("opentag", (tag) => {
    if (++depth > DEPTH_MAX) throw permanent("document_corrupt", { reason: "xml_depth" });
    handlers.open?.(localName(tag.name), tag.attributes);
  });
  parser.on("closetag", (tag) => {
    depth--;
    handlers.close?.(localName(tag.name));
  });
  parser.on("text", (text) => handlers.text?.(text));
  parser.on("cdata", (text) => handlers.text?.(text));
  parser.on("doctype", () => {
    throw permanent("document_corrupt", { reason: "xml_doctype" });
  });
  parser.on("error", (error) => {
    throw permanent("document_corrupt", { reason: "xml" }, error);
  });
  const decoder = new TextDecoder();
  inflateEntry(bytes, entry, allowance, (piece, isLast) => {
    parser.write(decoder.decode(piece, { stream: !isLast }));
  });
  parser.close();
}

export function localName(name: string): string {
  const colon = name.indexOf(":");
  return colon < 0 ? name : name.slice(colon + 1);
}
