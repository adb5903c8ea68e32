import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { permanent } from "../kernel/errors.ts";
import { createRoutes, json, needsRole, problem, type WebEnv } from "../runtime/routes.http.ts";
import { WorkDecisionSchema, WorkFilterSchema, WorkPageSchema } from "./work.http.ts";
import {
  ReceiptSchema,
  ReplaySchema,
  type WorkOffice,
  type WorkReads,
} from "./work-office.supabase.ts";
import type { WorkSender, WorkSweeps } from "./work-ports.ts";

export interface DeadLettersHttpDeps {
  readonly workReads: WorkReads;
  readonly workOffice: WorkOffice;
  readonly workSweeps: Pick<WorkSweeps, "waiting">;
  readonly workSender: WorkSender;
}

const REPLAY_MAX = 1000;

const list = createRoute({
  method: "get",
  path: "/dead-letters",
  summary: "Work items that ended without success, newest first",
  security: needsRole("viewer"),
  request: { query: WorkFilterSchema },
  responses: { 200: json("A page; `next` is `before` of the following one.", WorkPageSchema) },
});

const replay = createRoute({
  method: "post",
  path: "/dead-letters/replay",
  summary: "Move dead letters back to work, at a bounded speed; leaves a receipt",
  security: needsRole("operator"),
  request: {
    body: {
      required: true,
      content: {
        "application/json": {
          schema: WorkDecisionSchema.extend({
            ids: z.array(z.uuid()).min(1).max(REPLAY_MAX).optional(),
            filter: z
              .strictObject({
                kind: z.string().min(1).max(40).optional(),
                tenant: z.string().min(1).max(100).optional(),
                code: z.string().min(1).max(100).optional(),
                until: z.iso.datetime({ offset: true }).optional(),
              })
              .optional(),
            limit: z.int().min(1).max(REPLAY_MAX).default(100),
            perSecond: z.int().min(1).max(1000).default(10),
            dryRun: z.boolean().default(false),
          }).refine(
            ({ ids, filter }) => (ids === undefined) !== (filter === undefined),
            "give either ids or a filter",
          ),
        },
      },
    },
  },
  responses: {
    200: json("What was moved, or would be.", ReplaySchema.openapi("Replay")),
  },
});

const receipt = createRoute({
  method: "get",
  path: "/dead-letters/replays/{id}",
  summary: "The receipt of a replay, with where its items are now",
  security: needsRole("viewer"),
  request: { params: z.object({ id: z.uuid("must be the id of a replay") }) },
  responses: {
    200: json("The receipt.", ReceiptSchema.openapi("ReplayReceipt")),
    404: problem("No such replay."),
  },
});

/** Routes to see dead letters and to move them back to work. */
export const deadLetterRoutes = (deps: () => DeadLettersHttpDeps): OpenAPIHono<WebEnv> =>
  createRoutes()
    .openapi(list, async (c) => {
      const filter = { ...c.req.valid("query"), state: "dead" as const };
      const page = await deps().workReads.list(filter, c.env.run.signal);
      return c.json({ rows: [...page.rows], next: page.next }, 200);
    })
    .openapi(receipt, async (c) => {
      const found = await deps().workReads.receipt(c.req.valid("param").id, c.env.run.signal);
      if (found === undefined) throw permanent("work_replay_unknown");
      return c.json(found, 200);
    })
    .openapi(replay, async (c) => {
      const { ids, filter = {}, limit, perSecond, dryRun, reason } = c.req.valid("json");
      const { workOffice, workSweeps, workSender } = deps();
      const { signal } = c.env.run;
      const decision = { who: c.var.caller.name, reason };
      const order = { ids, filter, limit, perSecond, isDryRun: dryRun };
      const reply = await workOffice.replay(order, decision, signal);
      c.env.run.note({ replayId: reply.replayId, moved: reply.moved, skipped: reply.skipped });
      // The first ones start now; the sweeper and the endings of others let the rest in.
      if (!dryRun)
        await workSender.send((await workSweeps.waiting(undefined, signal)).send, signal);
      return c.json(reply, 200);
    });
