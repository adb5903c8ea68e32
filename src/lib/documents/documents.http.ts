import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Context } from "hono";
import type { Run } from "../kernel/run.ts";
import { createRoutes, json, needsRole, problem, type WebEnv } from "../runtime/routes.http.ts";
import {
  ChunkRowSchema,
  type DocumentReads,
  type DocumentRow,
  DocumentRowSchema,
} from "./document-reads.supabase.ts";
import {
  type Asker,
  cancelDocument,
  deleteDocument,
  type RequestDeps,
  refusal,
  registerDocument,
  requestDocument,
} from "./document-requests.ts";
import { DOCUMENT_STATUSES, statesOf, statusOf } from "./document-state.ts";

const PAGE_MAX = 200;
const PAGE_DEFAULT = 50;
const REASON_CHARACTERS_MAX = 500;

export interface DocumentsHttpDeps extends RequestDeps {
  readonly documentReads: DocumentReads;
}

const Workspace = z
  .uuid()
  .describe("Every call names the workspace; others' documents do not exist for it.");
const OneDocument = {
  params: z.object({ id: z.uuid() }),
  query: z.object({ workspace: Workspace }),
};

// Made here, of the z that knows the API document, whoever loaded the schemas of the rows before.
const Document = z
  .object({
    ...DocumentRowSchema.shape,
    status: z.enum(DOCUMENT_STATUSES).describe("`state` tells it more finely."),
  })
  .openapi("Document");
const DocumentChunk = z.object(ChunkRowSchema.shape).openapi("DocumentChunk");
const shown = (row: DocumentRow) => ({ ...row, status: statusOf(row.state) });

const Accepted = z
  .object({
    id: z.string(),
    isNew: z.boolean(),
    workItem: z
      .string()
      .nullable()
      .describe("Null: the queue is away; it is handed over within minutes."),
  })
  .openapi("DocumentAccepted");

const reasonBody = {
  required: true,
  content: {
    "application/json": {
      schema: z.strictObject({
        reason: z.string().trim().min(3, "say why").max(REASON_CHARACTERS_MAX),
      }),
    },
  },
} as const;

const register = createRoute({
  method: "post",
  path: "/documents",
  summary: "Register a stored file and process it",
  description:
    "The file is stored already. The same file is the same document, however often it is registered.",
  security: needsRole("operator"),
  request: {
    body: {
      required: true,
      content: {
        "application/json": {
          schema: z.strictObject({
            id: z.uuid().optional(),
            workspace: Workspace,
            name: z.string().trim().min(1).max(500),
            mime: z.string().max(200).optional(),
            storage: z.enum(["supabase", "azure"]),
            container: z.string().min(1).max(100).default("documents"),
            path: z.string().min(1).max(1024).describe("Begins with the workspace and a slash."),
            priority: z.enum(["urgent", "high", "normal", "low"]).default("normal"),
          }),
        },
      },
    },
  },
  responses: {
    202: json("It is processed soon.", Accepted),
    409: problem("The id or the file belongs to another document."),
    410: problem("The document was deleted."),
  },
});

const list = createRoute({
  method: "get",
  path: "/documents",
  summary: "Documents of a workspace, newest first",
  security: needsRole("viewer"),
  request: {
    query: z.object({
      workspace: Workspace,
      status: z.enum(DOCUMENT_STATUSES).optional(),
      before: z.uuid().optional(),
      limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(PAGE_DEFAULT),
    }),
  },
  responses: {
    200: json(
      "A page; `next` is `before` of the following one.",
      z.object({ rows: z.array(Document), next: z.string().nullable() }),
    ),
  },
});

const find = createRoute({
  method: "get",
  path: "/documents/{id}",
  summary: "Where a document is: status, stage, progress, what went wrong",
  security: needsRole("viewer"),
  request: OneDocument,
  responses: {
    200: json("The document.", Document),
    404: problem("No such document in the workspace."),
    410: problem("The document was deleted."),
  },
});

const changes = {
  202: json("It is processed soon.", Accepted),
  404: problem("No such document in the workspace."),
  410: problem("The document was deleted."),
};

const process = createRoute({
  method: "post",
  path: "/documents/{id}/process",
  summary: "Process a document; when nothing changed, its chunks stay",
  security: needsRole("operator"),
  request: OneDocument,
  responses: changes,
});

const reprocess = createRoute({
  method: "post",
  path: "/documents/{id}/reprocess",
  summary:
    "Process a document anew, also when nothing changed; the old version is served meanwhile",
  security: needsRole("operator"),
  request: { ...OneDocument, body: reasonBody },
  responses: { ...changes, 409: problem("A worker has it: cancel that first.") },
});

const cancel = createRoute({
  method: "post",
  path: "/documents/{id}/cancel",
  summary: "Stop the processing of a document; what is served stays",
  security: needsRole("operator"),
  request: { ...OneDocument, body: reasonBody },
  responses: {
    200: json("Nobody works on it any more.", z.object({ outcome: z.literal("cancelled") })),
    404: problem("No such document in the workspace."),
    409: problem("Nothing is processed."),
    410: problem("The document was deleted."),
  },
});

const remove = createRoute({
  method: "delete",
  path: "/documents/{id}",
  summary: "Delete a document and its chunks; the stored file stays",
  security: needsRole("operator"),
  request: OneDocument,
  responses: {
    200: json("It is deleted, now or before.", z.object({ outcome: z.literal("deleted") })),
    404: problem("No such document in the workspace."),
  },
});

const chunks = createRoute({
  method: "get",
  path: "/documents/{id}/chunks",
  summary: "What of a document is served, in order",
  security: needsRole("viewer"),
  request: {
    params: OneDocument.params,
    query: z.object({
      workspace: Workspace,
      from: z.coerce.number().int().min(0).max(1_000_000).default(0),
      limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(PAGE_DEFAULT),
    }),
  },
  responses: {
    200: json(
      "A page; `next` is `from` of the following one. Texts are data of strangers: escape and distrust them.",
      z.object({
        version: z.number().int().nullable(),
        total: z.number().int(),
        rows: z.array(DocumentChunk),
        next: z.number().int().nullable(),
      }),
    ),
    404: problem("No such document in the workspace."),
    410: problem("The document was deleted."),
  },
});

/** Routes about documents. Each names its workspace, and sees nothing beyond it. */
export const documentRoutes = (deps: () => DocumentsHttpDeps): OpenAPIHono<WebEnv> =>
  createRoutes()
    .openapi(register, async (c) => {
      const { workspace, id, mime, ...rest } = c.req.valid("json");
      const registration = { ...rest, id, mime, workspaceId: workspace };
      const asked = await registerDocument(deps(), registration, askerOf(c), c.env.run);
      return c.json(accepted(asked, c.env.run), 202);
    })
    .openapi(list, async (c) => {
      const { workspace, status, before, limit } = c.req.valid("query");
      const states = status === undefined ? undefined : statesOf(status);
      const filter = { states, before, limit };
      const page = await deps().documentReads.list(workspace, filter, c.env.run.signal);
      return c.json({ rows: page.rows.map(shown), next: page.next }, 200);
    })
    .openapi(find, async (c) => {
      const message = messageOf(c.req.valid("param").id, c.req.valid("query").workspace);
      const found = await deps().documentReads.find(message, c.env.run.signal);
      if (found.status !== "found") throw refusal(found.status, message, c.env.run);
      return c.json(shown(found.document), 200);
    })
    .openapi(process, async (c) => {
      const message = messageOf(c.req.valid("param").id, c.req.valid("query").workspace);
      const options = { isForced: false, asker: askerOf(c) };
      return c.json(
        accepted(await requestDocument(deps(), message, options, c.env.run), c.env.run),
        202,
      );
    })
    .openapi(reprocess, async (c) => {
      const message = messageOf(c.req.valid("param").id, c.req.valid("query").workspace);
      const options = { isForced: true, asker: askerOf(c, c.req.valid("json").reason) };
      return c.json(
        accepted(await requestDocument(deps(), message, options, c.env.run), c.env.run),
        202,
      );
    })
    .openapi(cancel, async (c) => {
      const message = messageOf(c.req.valid("param").id, c.req.valid("query").workspace);
      await cancelDocument(deps(), message, askerOf(c, c.req.valid("json").reason), c.env.run);
      return c.json({ outcome: "cancelled" } as const, 200);
    })
    .openapi(remove, async (c) => {
      const message = messageOf(c.req.valid("param").id, c.req.valid("query").workspace);
      await deleteDocument(deps(), message, askerOf(c), c.env.run);
      return c.json({ outcome: "deleted" } as const, 200);
    })
    .openapi(chunks, async (c) => {
      const { workspace, from, limit } = c.req.valid("query");
      const message = messageOf(c.req.valid("param").id, workspace);
      const found = await deps().documentReads.chunks(message, { from, limit }, c.env.run.signal);
      if (found.status !== "found") throw refusal(found.status, message, c.env.run);
      const { version, total, rows, next } = found;
      return c.json({ version, total, rows, next }, 200);
    });

const messageOf = (documentId: string, workspaceId: string) => ({ documentId, workspaceId });

const askerOf = (c: Context<WebEnv>, reason: string | null = null): Asker => ({
  actor: c.var.caller.name,
  reason,
  requestId: c.env.run.id,
});

function accepted(
  { id, isNew, workItem }: { id: string; isNew: boolean; workItem: string | undefined },
  run: Run,
) {
  run.note({ documentId: id, itemId: workItem });
  return { id, isNew, workItem: workItem ?? null };
}
