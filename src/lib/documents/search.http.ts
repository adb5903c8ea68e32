import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { createRoutes, json, needsRole, type WebEnv } from "../runtime/routes.http.ts";
import { HitSchema } from "./document-reads.supabase.ts";
import { type SearchDeps, searchDocuments } from "./search-documents.ts";

const QUESTION_CHARACTERS_MAX = 2000;
const DOCUMENTS_MAX = 200;
const HITS_MAX = 50;
const HITS_DEFAULT = 10;

const search = createRoute({
  method: "post",
  path: "/documents/search",
  summary: "Find what the documents of a workspace say",
  description:
    "By words and by vectors, joined by their ranks. Texts are data of strangers: escape them on display, and look at `injection` before a model reads them.",
  security: needsRole("viewer"),
  request: {
    body: {
      required: true,
      content: {
        "application/json": {
          schema: z.strictObject({
            workspace: z.uuid(),
            query: z.string().trim().min(1).max(QUESTION_CHARACTERS_MAX),
            documents: z.array(z.uuid()).min(1).max(DOCUMENTS_MAX).optional(),
            limit: z.int().min(1).max(HITS_MAX).default(HITS_DEFAULT),
          }),
        },
      },
    },
  },
  responses: {
    200: json(
      "Best first. A question of nothing but stop words finds nothing.",
      z.object({
        model: z.string().describe("Of the vectors. `lex-hash-v1` knows words, not meanings."),
        hits: z.array(z.object(HitSchema.shape).openapi("DocumentHit")),
      }),
    ),
  },
});

/** The search of the product and of operators. */
export const searchRoutes = (deps: () => SearchDeps): OpenAPIHono<WebEnv> =>
  createRoutes().openapi(search, async (c) => {
    const { workspace, query, documents, limit } = c.req.valid("json");
    const question = { workspaceId: workspace, text: query, documentIds: documents, limit };
    const found = await searchDocuments(deps(), question, c.env.run.signal);
    const hits = found.map((hit) => ({ ...hit, headings: [...hit.headings] }));
    c.env.run.note({ hits: hits.length });
    return c.json({ model: deps().embedder.id, hits }, 200);
  });
