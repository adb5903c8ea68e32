import { decodeText } from "./decode-text.ts";
import type { ReadFacts, ReadTask } from "./reader.ts";

/** Paragraphs are what stands between empty lines. */
export function readPlain(task: ReadTask): ReadFacts {
  const { text, charset } = decodeTask(task);
  addParagraphs(task, text);
  return { meta: { charset } };
}

/** The text of a file, with a warning when its encoding is a guess. */
export function decodeTask({ bytes, declaredCharset, out }: ReadTask, declared = declaredCharset) {
  const decoded = decodeText(bytes, declared);
  if (!decoded.isCertain) out.warn({ code: "charset_unknown" });
  return decoded;
}

export function addParagraphs({ out }: Pick<ReadTask, "out">, text: string): void {
  for (const paragraph of text.replace(/\r\n?/g, "\n").split(/\n[^\S\n]*\n/))
    out.block({ kind: "paragraph", text: paragraph });
}
