import { createHash } from "node:crypto";
import type { Embedder } from "./embedder.ts";

/** What content becomes chunks by: of equal content and an equal key, the chunks are equal. */
export function pipelineKey(
  versions: { readonly reader: string; readonly chunker: string },
  { id, dimensions }: Pick<Embedder, "id" | "dimensions">,
): string {
  const parts = [versions.reader, versions.chunker, id, dimensions];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 32);
}
