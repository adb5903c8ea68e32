import { z } from "zod";
import { type AppError, permanent, transient } from "../../kernel/errors.ts";

const Reply = z.object({
  data: z.array(z.object({ index: z.int().nonnegative(), embedding: z.base64() })),
});

const FLOAT_BYTES = 4;

/**
 * The vectors of one reply in the order of the inputs, each of length 1.
 *
 * @throws AppError transient `embedder_unavailable` for a reply that is cut or has holes; permanent `embedder_refused`
 * for vectors of other dimensions: the deployment is of another model.
 */
export function parseEmbeddings(
  body: string,
  { inputs, dimensions }: { inputs: number; dimensions: number },
): Float32Array[] {
  const vectors = new Map<number, Float32Array>();
  for (const { index, embedding } of parseReply(body).data) {
    if (index >= inputs || vectors.has(index))
      throw replyUnusable("an index that was not asked for");
    vectors.set(index, toUnitVector(Buffer.from(embedding, "base64"), dimensions));
  }
  if (vectors.size !== inputs) throw replyUnusable("fewer vectors than inputs");
  return [...vectors].sort(([a], [b]) => a - b).map(([, vector]) => vector);
}

function parseReply(body: string): z.infer<typeof Reply> {
  try {
    return Reply.parse(JSON.parse(body));
  } catch (error) {
    throw replyUnusable("not the JSON of embeddings", error);
  }
}

const replyUnusable = (reason: string, cause?: unknown): AppError =>
  transient("embedder_unavailable", { reason }, cause);

/** The service sends vectors of length 1 already; rounding on the way would add up over many comparisons. */
function toUnitVector(bytes: Buffer, dimensions: number): Float32Array {
  const got = bytes.length / FLOAT_BYTES;
  if (got !== dimensions)
    throw permanent("embedder_refused", { reason: "dimensions", expected: dimensions, got });
  const vector = Float32Array.from({ length: dimensions }, (_, at) =>
    bytes.readFloatLE(at * FLOAT_BYTES),
  );
  const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
  if (!Number.isFinite(length) || length === 0) throw replyUnusable("a vector without a direction");
  return vector.map((value) => value / length);
}
