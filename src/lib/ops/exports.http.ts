import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Clock } from "../kernel/clock.ts";
import { permanent } from "../kernel/errors.ts";
import { createRoutes, json, needsRole, problem, type WebEnv } from "../runtime/routes.http.ts";
import { type ExportReads, ExportRowSchema, ManifestSchema } from "./exports.supabase.ts";

const PAGE_MAX = 200;
const PAGE_DEFAULT = 50;
/** Long enough to begin a download, short enough that a link in a log is worth nothing. */
const LINK_MS = 15 * 60_000;

export interface ExportsHttpDeps {
  readonly clock: Clock;
  readonly exportReads: ExportReads;
  readonly exportLinks: { link(path: string, expiresAt: number): Promise<string> };
}

const Week = z.iso.date("must be the first day of a week, such as 2026-11-15");

const list = createRoute({
  method: "get",
  path: "/exports",
  summary: "Weekly exports, newest first",
  security: needsRole("viewer"),
  request: {
    query: z.object({
      before: Week.optional(),
      limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(PAGE_DEFAULT),
    }),
  },
  responses: {
    200: json(
      "A page; `next` is `before` of the following one.",
      z.object({
        rows: z.array(ExportRowSchema.openapi("Export")),
        next: z.string().nullable(),
      }),
    ),
  },
});

const read = createRoute({
  method: "get",
  path: "/exports/{week}",
  summary: "The manifest of a finished export: its files with rows, bytes and sha256",
  security: needsRole("viewer"),
  request: { params: z.object({ week: Week }) },
  responses: {
    200: json("The manifest.", ManifestSchema.openapi("ExportManifest")),
    404: problem("There is no such export, or it is not finished."),
  },
});

const Link = z
  .object({ name: z.string(), url: z.string(), expiresAt: z.string(), sha256: z.string() })
  .openapi("ExportLink");

const link = createRoute({
  method: "get",
  path: "/exports/{week}/files/{name}",
  summary: "A link under which a file of an export can be downloaded for 15 minutes",
  security: needsRole("operator"),
  request: {
    params: z.object({
      week: Week,
      name: z.string().regex(/^[a-z0-9-]{1,100}$/, "must be a file name"),
    }),
  },
  responses: {
    200: json("The link; whoever has it may read the file.", Link),
    404: problem("There is no such export, or no such file in it."),
  },
});

/** Routes to see exports and to download their files. */
export const exportRoutes = (deps: () => ExportsHttpDeps): OpenAPIHono<WebEnv> =>
  createRoutes()
    .openapi(list, async (c) => {
      const page = await deps().exportReads.list(c.req.valid("query"), c.env.run.signal);
      return c.json({ rows: [...page.rows], next: page.next }, 200);
    })
    .openapi(read, async (c) => {
      const { week } = c.req.valid("param");
      const manifest = await deps().exportReads.manifest(week, c.env.run.signal);
      if (manifest === undefined) throw permanent("export_unknown", { week });
      return c.json(manifest, 200);
    })
    .openapi(link, async (c) => {
      const { week, name } = c.req.valid("param");
      const { clock, exportReads, exportLinks } = deps();
      const manifest = await exportReads.manifest(week, c.env.run.signal);
      const file = manifest?.files.find((candidate) => candidate.name === name);
      if (file === undefined) throw permanent("export_unknown", { week, file: name });
      const expiresAt = clock.now() + LINK_MS;
      const url = await exportLinks.link(file.path, expiresAt);
      c.env.run.note({ week, file: name });
      c.header("cache-control", "no-store");
      const until = new Date(expiresAt).toISOString();
      return c.json({ name, url, expiresAt: until, sha256: file.sha256 }, 200);
    });
