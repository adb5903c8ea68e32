import type { Clock } from "../../kernel/clock.ts";
import { permanent } from "../../kernel/errors.ts";
import { retry } from "../../kernel/retry.ts";
import type { Embedder } from "../embedder.ts";
import { type Answer, type Credentials, requestEmbeddings } from "./azure-openai-request.ts";
import { type BatchLimits, type Input, planBatches } from "./embedding-batches.ts";
import { parseEmbeddings } from "./embedding-reply.ts";
import { createTokenBucket } from "./token-bucket.ts";

export interface AzureOpenAiOptions {
  readonly endpoint: string;
  /** Part of the embedder's id: a deployment of another model needs another name. */
  readonly deployment: string;
  readonly credentials: Credentials;
  /** The quota of the deployment that this process may use. */
  readonly tokensPerMinute: number;
  readonly clock: Clock;
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly random?: () => number;
}

export const AZURE_OPENAI_DIMENSIONS = 1536;
const INPUTS_MAX = 128;
const TOKENS_MAX = 100_000;
const ATTEMPTS = 6;
const BACKOFF = { baseMs: 1000, capMs: 60_000 };
/** When so many inputs and no other one are refused, it is not the inputs. */
const ALL_REFUSED_MIN = 16;

/**
 * Vectors of a deployment of `text-embedding-3-small`, in batches of at most 128 texts and 100,000 tokens. Null for a text
 * that is empty, or that the service refuses by itself: batches with one are halved until it is alone. Repeating a
 * call costs money and changes nothing.
 */
export function createAzureOpenAi(options: AzureOpenAiOptions): Embedder {
  const { deployment, tokensPerMinute, clock, sleep } = options;
  const limits = { inputsMax: INPUTS_MAX, tokensMax: Math.min(TOKENS_MAX, tokensPerMinute) };
  const bucket = createTokenBucket({
    perMinute: tokensPerMinute,
    clock,
    ...(sleep === undefined ? {} : { sleep }),
  });
  const target = { ...options, dimensions: AZURE_OPENAI_DIMENSIONS };
  const request = async (batch: readonly Input[], signal: AbortSignal): Promise<Outcome> => {
    await bucket.take(sumTokens(batch), signal);
    const texts = batch.map(({ text }) => text);
    const answer = await requestEmbeddings(target, options.credentials, texts, signal);
    if (answer.kind === "inputs_refused") return answer;
    const expected = { inputs: batch.length, dimensions: AZURE_OPENAI_DIMENSIONS };
    return { kind: "vectors", vectors: parseEmbeddings(answer.body, expected) };
  };
  return {
    id: `azure-openai:${deployment}`,
    dimensions: AZURE_OPENAI_DIMENSIONS,
    isSemantic: true,
    embed: async (texts, signal) => {
      const inputs = await toInputs(texts);
      const retried = (batch: readonly Input[]) =>
        retry(() => request(batch, signal), { ...options, ...BACKOFF, attempts: ATTEMPTS, signal });
      return inOrder(texts.length, await embedInputs(inputs, limits, retried));
    },
  };
}

/** Counting loads the table of tokens, which other embedders do not need. */
async function toInputs(texts: readonly string[]): Promise<Input[]> {
  const { countTokens } = await import("../chunk/tokens.ts");
  return texts
    .map((text, at) => ({ at, text, tokens: countTokens(text) }))
    .filter(({ text }) => text.trim() !== "");
}

const sumTokens = (batch: readonly Input[]): number =>
  batch.reduce((sum, { tokens }) => sum + tokens, 0);

type Outcome =
  | { readonly kind: "vectors"; readonly vectors: readonly Float32Array[] }
  | Exclude<Answer, { readonly kind: "body" }>;
type Ask = (batch: readonly Input[]) => Promise<Outcome>;
type Vectors = ReadonlyMap<number, Float32Array>;

async function embedInputs(
  inputs: readonly Input[],
  limits: BatchLimits,
  ask: Ask,
): Promise<Vectors> {
  const vectors = new Map<number, Float32Array>();
  let refusal = "none";
  for (const batch of planBatches(inputs, limits)) {
    const refused = await embedBatch(batch, ask, vectors);
    if (refused !== undefined) refusal = refused;
    if (vectors.size === 0 && batch.length >= ALL_REFUSED_MIN)
      throw permanent("embedder_refused", { status: 400, reason: refusal, inputs: batch.length });
  }
  return vectors;
}

/** Each input is asked for at most once per halving, so at most eight times. @returns the code of the last refusal. */
async function embedBatch(
  batch: readonly Input[],
  ask: Ask,
  vectors: Map<number, Float32Array>,
): Promise<string | undefined> {
  const answer = await ask(batch);
  if (answer.kind === "vectors") {
    for (const [index, { at }] of batch.entries()) {
      const vector = answer.vectors[index];
      if (vector !== undefined) vectors.set(at, vector);
    }
    return undefined;
  }
  if (batch.length === 1) return answer.code;
  const middle = Math.ceil(batch.length / 2);
  await embedBatch(batch.slice(0, middle), ask, vectors);
  await embedBatch(batch.slice(middle), ask, vectors);
  return answer.code;
}

const inOrder = (count: number, vectors: Vectors): (Float32Array | null)[] =>
  Array.from({ length: count }, (_, at) => vectors.get(at) ?? null);
