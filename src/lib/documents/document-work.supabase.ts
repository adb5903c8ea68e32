import { z } from "zod";
import { AppError } from "../kernel/errors.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { DocumentEndings, DocumentWork, Hold, Holder, StagedChunk } from "./document-claim.ts";

/** Longer than any stage that does not renew it. */
const LEASE_SECONDS = 300;

const ClaimReply = z.discriminatedUnion("status", [
  z.object({
    status: z.literal("claimed"),
    version: z.number().int(),
    storage: z.enum(["supabase", "azure"]),
    container: z.string(),
    path: z.string(),
    name: z.string(),
    mime: z.string().nullable(),
    sha256: z.string().nullable(),
    pipelineKey: z.string().nullable(),
    isForced: z.boolean(),
    absences: z.number().int(),
    errorCode: z.string().nullable(),
    hasActive: z.boolean(),
  }),
  z.object({ status: z.enum(["busy", "stale", "cancelled", "gone", "mismatch", "unknown"]) }),
]);
const HoldReply = z.object({ status: z.enum(["ok", "lost", "cancelled", "deleted"]) });
const Hashes = z.array(z.string());

/** Replies of the database are input like any other. */
export function parseReply<T extends z.ZodType>(schema: T, row: unknown): z.output<T> {
  const parsed = schema.safeParse(row);
  if (parsed.success) return parsed.data;
  throw new AppError("bug", "database_reply_unexpected", {
    details: { what: "document" },
    cause: parsed.error,
  });
}

const named = ({ documentId, itemId, fence }: Holder) => ({
  p_id: documentId,
  p_item: itemId,
  p_fence: fence,
});

const hold = async (reply: Promise<unknown>): Promise<Hold> =>
  parseReply(HoldReply, await reply).status;

export const documentWork = (rpc: Rpc): DocumentWork => ({
  claim: async (holder, signal) => {
    const lease = { p_workspace: holder.workspaceId, p_lease_seconds: LEASE_SECONDS };
    return parseReply(
      ClaimReply,
      await rpc("document_claim", { ...named(holder), ...lease }, signal),
    );
  },

  touch: (holder, stage, signal) => {
    const args = { p_stage: stage, p_progress: {}, p_lease_seconds: LEASE_SECONDS };
    return hold(rpc("document_touch", { ...named(holder), ...args }, signal));
  },

  known: async ({ documentId }, model, signal) => {
    const args = { p_id: documentId, p_model: model };
    return new Set(parseReply(Hashes, await rpc("document_known_chunks", args, signal)));
  },

  stage: (holder, { model, chunks, done, total }, signal) => {
    const args = {
      p_model: model,
      p_rows: chunks.map(toRow),
      p_done: done,
      p_total: total,
      p_lease_seconds: LEASE_SECONDS,
    };
    return hold(rpc("document_put_chunks", { ...named(holder), ...args }, signal));
  },

  finish: (holder, expected, facts, signal) => {
    const args = { p_expect: expected, p_facts: facts };
    return hold(rpc("document_finish", { ...named(holder), ...args }, signal));
  },

  keep: (holder, signal) => hold(rpc("document_keep", named(holder), signal)),
});

export const documentEndings = (rpc: Rpc): DocumentEndings => ({
  fail: (holder, { state, code, text, isAbsent }, signal) => {
    const args = { p_state: state, p_code: code, p_text: text, p_is_absent: isAbsent };
    return hold(rpc("document_fail", { ...named(holder), ...args }, signal));
  },

  release: (holder, signal) => hold(rpc("document_release", named(holder), signal)),

  settle: async ({ documentId, workspaceId }, { itemId, state, reason }, signal) => {
    const args = {
      p_id: documentId,
      p_workspace: workspaceId,
      p_item: itemId,
      p_ending: state,
      p_code: reason,
      p_text: "The document could not be processed",
    };
    await rpc("document_settle", args, signal);
  },
});

const toRow = ({ vector, ...chunk }: StagedChunk) => ({
  ...chunk,
  vector: vector === null ? null : vectorText(vector),
});

/** Half precision holds no more than five digits; most components of a lexical vector are 0. */
export const vectorText = (vector: Float32Array): string =>
  `[${Array.from(vector, (x) => (x === 0 ? "0" : String(Number(x.toPrecision(5))))).join(",")}]`;
