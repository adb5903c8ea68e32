import { z } from "zod";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { DocumentMessage } from "./document-message.ts";
import type { DocumentRequests } from "./document-requests.ts";
import { parseReply } from "./document-work.supabase.ts";
import type { DocumentSweeps } from "./sweep-documents.ts";

const Priority = z.enum(["urgent", "high", "normal", "low"]);
const RegisterReply = z.discriminatedUnion("status", [
  z.object({ status: z.enum(["queued", "already"]), id: z.string(), isNew: z.boolean() }),
  z.object({ status: z.enum(["conflict", "gone"]) }),
]);
const RequestReply = z.discriminatedUnion("status", [
  z.object({ status: z.enum(["queued", "already"]), id: z.string(), priority: Priority }),
  z.object({ status: z.enum(["processing", "gone", "mismatch", "unknown"]) }),
]);
const CancelReply = z.discriminatedUnion("status", [
  z.object({ status: z.literal("cancelled"), workItem: z.string().nullable() }),
  z.object({ status: z.literal("over"), state: z.string() }),
  z.object({ status: z.enum(["gone", "mismatch", "unknown"]) }),
]);
const DeleteReply = z.discriminatedUnion("status", [
  z.object({ status: z.literal("deleted"), workItem: z.string().nullable() }),
  z.object({ status: z.enum(["gone", "mismatch", "unknown"]) }),
]);
const SweepReply = z.array(
  z.object({ id: z.string(), workspaceId: z.string(), priority: Priority }),
);

const named = ({ documentId, workspaceId }: DocumentMessage) => ({
  p_id: documentId,
  p_workspace: workspaceId,
});

export const documentRequests = (rpc: Rpc): DocumentRequests => ({
  register: async (
    { id, workspaceId, name, mime, storage, container, path, priority },
    asker,
    signal,
  ) => {
    const args = {
      p_id: id ?? null,
      p_workspace: workspaceId,
      p_name: name,
      p_mime: mime ?? null,
      p_storage: storage,
      p_container: container,
      p_path: path,
      p_priority: priority,
      p_audit: asker,
    };
    return parseReply(RegisterReply, await rpc("document_register", args, signal));
  },

  request: async (message, { isForced, asker }, signal) => {
    const args = { ...named(message), p_force: isForced, p_audit: asker };
    return parseReply(RequestReply, await rpc("document_request", args, signal));
  },

  cancel: async (message, asker, signal) => {
    const args = { ...named(message), p_audit: asker };
    return parseReply(CancelReply, await rpc("document_cancel", args, signal));
  },

  delete: async (message, asker, signal) => {
    const args = { ...named(message), p_audit: asker };
    return parseReply(DeleteReply, await rpc("document_delete", args, signal));
  },

  noteItem: async (message, itemId, signal) => {
    await rpc("document_note_item", { ...named(message), p_item: itemId }, signal);
  },
});

export const documentSweeps = (rpc: Rpc): DocumentSweeps => ({
  waiting: async (staleSeconds, limit, signal) => {
    const args = { p_stale_seconds: staleSeconds, p_limit: limit };
    const rows = parseReply(SweepReply, await rpc("document_sweep", args, signal));
    return rows.map(({ id, workspaceId, priority }) => ({ documentId: id, workspaceId, priority }));
  },

  prune: async (before, limit, signal) => {
    const args = { p_before: new Date(before).toISOString(), p_limit: limit };
    return parseReply(z.number().int(), await rpc("document_prune", args, signal));
  },
});
