import { z } from "zod";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { DocumentMessage } from "./document-message.ts";
import { DOCUMENT_STATES } from "./document-state.ts";
import { parseReply, vectorText } from "./document-work.supabase.ts";
import type { DocumentIndex } from "./search-documents.ts";

const Instant = z.string().nullable();
const Injection = z.object({
  riskScore: z.number(),
  flags: z.array(z.string()),
  patterns: z.array(z.string()),
});
const WarningSchema = z.object({
  code: z.string(),
  detail: z.string().optional(),
  page: z.number().int().optional(),
});

export const DocumentRowSchema = z.object({
  id: z.string(),
  workspaceId: z.string(),
  name: z.string(),
  mime: z.string().nullable(),
  storage: z.enum(["supabase", "azure"]),
  container: z.string(),
  path: z.string(),
  priority: z.enum(["urgent", "high", "normal", "low"]),
  state: z.enum(DOCUMENT_STATES),
  stage: z.string().nullable(),
  progress: z.record(z.string(), z.unknown()),
  isSearchable: z.boolean(),
  version: z.number().int().nullable(),
  workItem: z.string().nullable(),
  attempts: z.number().int(),
  failures: z.number().int(),
  bytes: z.number().nullable(),
  sha256: z.string().nullable(),
  type: z.string().nullable(),
  language: z.string().nullable(),
  pages: z.number().int().nullable(),
  chunks: z.number().int().nullable(),
  warnings: z.array(WarningSchema),
  errorCode: z.string().nullable(),
  errorText: z.string().nullable(),
  createdAt: z.string(),
  requestedAt: Instant,
  startedAt: Instant,
  finishedAt: Instant,
  updatedAt: z.string(),
});
export type DocumentRow = z.output<typeof DocumentRowSchema>;

export const ChunkRowSchema = z.object({
  ordinal: z.number().int(),
  content: z.string(),
  headings: z.array(z.string()),
  tokens: z.number().int(),
  pageFrom: z.number().int().nullable(),
  pageTo: z.number().int().nullable(),
  charFrom: z.number().int(),
  charTo: z.number().int(),
  language: z.string(),
  injection: Injection,
  sha256: z.string(),
  model: z.string(),
  hasVector: z.boolean(),
});

export const HitSchema = z.object({
  documentId: z.string(),
  name: z.string(),
  ordinal: z.number().int(),
  headings: z.array(z.string()),
  pageFrom: z.number().int().nullable(),
  pageTo: z.number().int().nullable(),
  language: z.string(),
  snippet: z.string(),
  content: z.string(),
  injection: Injection,
  score: z.number(),
  wordRank: z.number().nullable(),
  similarity: z.number().nullable(),
});

const Refusal = z.object({ status: z.enum(["gone", "mismatch", "unknown"]) });
const FoundReply = z.discriminatedUnion("status", [
  z.object({ status: z.literal("found"), document: DocumentRowSchema }),
  Refusal,
]);
const ListReply = z.object({ rows: z.array(DocumentRowSchema), next: z.string().nullable() });
const ChunksReply = z.discriminatedUnion("status", [
  z.object({
    status: z.literal("found"),
    version: z.number().int().nullable(),
    total: z.number().int(),
    rows: z.array(ChunkRowSchema),
    next: z.number().int().nullable(),
  }),
  Refusal,
]);
const SearchReply = z.object({ rows: z.array(HitSchema) });

export interface DocumentReads {
  find(message: DocumentMessage, signal: AbortSignal): Promise<z.output<typeof FoundReply>>;
  list(
    workspaceId: string,
    filter: {
      readonly states: readonly string[] | undefined;
      /** Id of the last document of the page before. */
      readonly before: string | undefined;
      readonly limit: number;
    },
    signal: AbortSignal,
  ): Promise<z.output<typeof ListReply>>;
  /** Of the served version. */
  chunks(
    message: DocumentMessage,
    page: { readonly from: number; readonly limit: number },
    signal: AbortSignal,
  ): Promise<z.output<typeof ChunksReply>>;
}

const named = ({ documentId, workspaceId }: DocumentMessage) => ({
  p_id: documentId,
  p_workspace: workspaceId,
});

export const documentReads = (rpc: Rpc): DocumentReads => ({
  find: async (message, signal) =>
    parseReply(FoundReply, await rpc("document_read", named(message), signal)),

  list: async (workspaceId, { states, before, limit }, signal) => {
    const args = {
      p_workspace: workspaceId,
      p_states: states ?? null,
      p_before: before ?? null,
      p_limit: limit,
    };
    return parseReply(ListReply, await rpc("document_list", args, signal));
  },

  chunks: async (message, { from, limit }, signal) => {
    const args = { ...named(message), p_from: from, p_limit: limit };
    return parseReply(ChunksReply, await rpc("document_read_chunks", args, signal));
  },
});

export const documentIndex = (rpc: Rpc): DocumentIndex => ({
  find: async (question, { model, embedding }, { words, vectors, floor }, signal) => {
    const args = {
      p_workspace: question.workspaceId,
      p_question: question.text,
      p_embedding: embedding === null ? null : vectorText(embedding),
      p_model: model,
      p_weight_words: words,
      p_weight_vectors: vectors,
      p_floor: floor,
      p_documents: question.documentIds ?? null,
      p_limit: question.limit,
    };
    return parseReply(SearchReply, await rpc("document_search", args, signal)).rows;
  },
});
