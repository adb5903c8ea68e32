import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { permanent } from "../kernel/errors.ts";
import { createRoutes, json, needsRole, problem, type WebEnv } from "../runtime/routes.http.ts";
import type { WorkQueue } from "./enqueue-work.ts";
import { WAIT_REASONS, whyWaiting } from "./why-waiting.ts";
import { PRIORITIES, type WorkSpec } from "./work.ts";
import {
  WorkItemSchema,
  type WorkOffice,
  type WorkReads,
  WorkStatsSchema,
  WorkStorySchema,
} from "./work-office.supabase.ts";
import type { WorkSender } from "./work-ports.ts";

export interface WorkHttpDeps {
  readonly workSpecs: readonly WorkSpec[];
  readonly workQueue: WorkQueue;
  readonly workReads: WorkReads;
  readonly workOffice: WorkOffice;
  readonly workSender: WorkSender;
}

const PAGE_MAX = 200;
const PAGE_DEFAULT = 50;

export const WorkFilterSchema = z.object({
  kind: z.string().min(1).max(40).optional(),
  tenant: z.string().min(1).max(100).optional(),
  code: z
    .string()
    .regex(/^[a-z0-9_]{1,100}$/, "must be a code such as work_poison")
    .optional(),
  search: z.string().min(1).max(100).optional().describe("Part of the error."),
  since: z.iso.datetime({ offset: true }).optional(),
  until: z.iso.datetime({ offset: true }).optional(),
  before: z
    .string()
    .regex(/^\d{1,18}$/, "must be the seq of an item")
    .optional(),
  limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(PAGE_DEFAULT),
});

export const WorkPageSchema = z.object({
  rows: z.array(WorkItemSchema.openapi("WorkItem")),
  next: z.string().nullable(),
});

export const WorkDecisionSchema = z.strictObject({
  reason: z.string().trim().min(3, "say why").max(500),
});

const Id = z.object({ id: z.uuid("must be the id of an item") });

const create = createRoute({
  method: "post",
  path: "/jobs/{kind}",
  summary: "Accept a work item: durable once this answers",
  security: needsRole("operator"),
  request: {
    params: z.object({ kind: z.string().min(1).max(40) }),
    body: {
      required: true,
      content: {
        "application/json": {
          schema: z.strictObject({
            payload: z.record(z.string(), z.unknown()).describe("Ids and options, at most 8 KiB."),
            tenant: z.string().min(1).max(100),
            priority: z.enum(PRIORITIES).default("normal"),
            dedupeKey: z.string().min(1).max(200).optional(),
            runAt: z.iso.datetime({ offset: true }).optional(),
            maxAttempts: z.int().min(1).max(100).optional(),
            version: z.int().min(0).max(1_000_000).optional(),
          }),
        },
      },
    },
  },
  responses: {
    202: json("Accepted.", z.object({ id: z.string() }).openapi("AcceptedWork")),
    200: json("It repeats a live item, whose id this is.", z.object({ id: z.string() })),
    400: problem("The payload does not fit the kind and version."),
    404: problem("No such kind of work."),
  },
});

const stats = createRoute({
  method: "get",
  path: "/jobs/stats",
  summary: "What lives, how old the oldest is, and whether every item is accounted for",
  security: needsRole("viewer"),
  responses: { 200: json("Now.", WorkStatsSchema.openapi("WorkStats")) },
});

const list = createRoute({
  method: "get",
  path: "/jobs",
  summary: "Work items, newest first",
  security: needsRole("viewer"),
  request: {
    query: WorkFilterSchema.extend({ state: WorkItemSchema.shape.state.optional() }),
  },
  responses: { 200: json("A page; `next` is `before` of the following one.", WorkPageSchema) },
});

const WorkStory = WorkStorySchema.extend({
  why: z.object({ reason: z.enum(WAIT_REASONS), text: z.string() }),
}).openapi("WorkStory");

const find = createRoute({
  method: "get",
  path: "/jobs/{id}",
  summary: "One work item: state, attempts, next attempt, and why it does not run",
  security: needsRole("viewer"),
  request: { params: Id },
  responses: { 200: json("The item.", WorkStory), 404: problem("No such item.") },
});

const cancel = createRoute({
  method: "post",
  path: "/jobs/{id}/cancel",
  summary: "Cancel a work item: at once when it waits, at its next heartbeat when it runs",
  security: needsRole("operator"),
  request: {
    params: Id,
    body: {
      required: true,
      content: { "application/json": { schema: WorkDecisionSchema } },
    },
  },
  responses: {
    200: json(
      "What became of it.",
      z
        .object({ outcome: z.enum(["cancelled", "requested", "already_requested"]) })
        .openapi("WorkCancellation"),
    ),
    404: problem("No such item."),
    409: problem("It is over already."),
  },
});

/** Routes to add, see and cancel work items. */
export const workRoutes = (deps: () => WorkHttpDeps): OpenAPIHono<WebEnv> =>
  createRoutes()
    .openapi(stats, async (c) => c.json(await deps().workReads.stats(c.env.run.signal), 200))
    .openapi(list, async (c) => {
      const page = await deps().workReads.list(c.req.valid("query"), c.env.run.signal);
      return c.json({ rows: [...page.rows], next: page.next }, 200);
    })
    .openapi(find, async (c) => {
      const { workReads, workSpecs } = deps();
      const item = await workReads.find(c.req.valid("param").id, c.env.run.signal);
      if (item === undefined) throw permanent("work_item_unknown");
      const spec = workSpecs.find(({ kind }) => kind === item.kind);
      return c.json({ ...item, why: whyWaiting(item, spec) }, 200);
    })
    .openapi(create, async (c) => {
      const { runAt, ...order } = c.req.valid("json");
      const { workQueue } = deps();
      const when = runAt === undefined ? {} : { runAt: Date.parse(runAt) };
      const full = { ...order, ...when, requestedBy: c.var.caller.name };
      const { kind } = c.req.valid("param");
      const { id, isDuplicate } = await workQueue.enqueue(kind, full, c.env.run.signal);
      c.env.run.note({ itemId: id, isDuplicate });
      return isDuplicate ? c.json({ id }, 200) : c.json({ id }, 202);
    })
    .openapi(cancel, async (c) => {
      const decision = { who: c.var.caller.name, reason: c.req.valid("json").reason };
      const { workOffice, workSender } = deps();
      const { id } = c.req.valid("param");
      const reply = await workOffice.cancel(id, decision, c.env.run.signal);
      c.env.run.note({ itemId: id, cancel: reply.outcome });
      if (reply.outcome === "unknown") throw permanent("work_item_unknown");
      await workSender.send(reply.send, c.env.run.signal);
      if (reply.outcome === "ended") throw permanent("work_item_ended", { state: reply.state });
      return c.json({ outcome: reply.outcome }, 200);
    });
