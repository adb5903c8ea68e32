import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { permanent } from "../kernel/errors.ts";
import { createRoutes, json, needsRole, problem, type WebEnv } from "../runtime/routes.http.ts";
import { SetAsideSchema } from "./quarantine.supabase.ts";
import { type Decided, type QuarantineLedger, retryQuarantined } from "./quarantine.ts";

const PAGE_MAX = 200;
const PAGE_DEFAULT = 50;
const REASON_CHARACTERS_MAX = 500;

export interface QuarantineHttpDeps {
  readonly quarantineLedger: QuarantineLedger;
}

const Id = z.string().regex(/^\d{1,18}$/, "must be the id of a quarantined entry");
const DecisionBody = z.strictObject({
  reason: z.string().trim().min(3, "say why").max(REASON_CHARACTERS_MAX),
});
const DecisionAnswer = z
  .object({
    outcome: z.enum(["booked", "duplicate", "discarded", "already_decided"]),
    period: z.int().optional(),
    resolution: z.string().optional(),
  })
  .openapi("QuarantineDecision");

const list = createRoute({
  method: "get",
  path: "/usage-quarantine",
  summary: "Entries that could not be booked, newest first, with their raw value",
  security: needsRole("viewer"),
  request: {
    query: z.object({
      tenant: z.string().min(1).max(200).optional(),
      error: z.string().min(1).max(50).optional(),
      state: z.enum(["open", "resolved", "all"]).default("open"),
      before: Id.optional(),
      limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(PAGE_DEFAULT),
    }),
  },
  responses: {
    200: json(
      "A page; `next` is `before` of the following one.",
      z.object({
        rows: z.array(z.object(SetAsideSchema.shape).openapi("QuarantinedUse")),
        next: z.string().nullable(),
      }),
    ),
  },
});

const decide = (action: "retry" | "discard", summary: string) =>
  createRoute({
    method: "post",
    path: `/usage-quarantine/{id}/${action}`,
    summary,
    security: needsRole("operator"),
    request: {
      params: z.object({ id: Id }),
      body: { required: true, content: { "application/json": { schema: DecisionBody } } },
    },
    responses: {
      200: json("What became of it. The first decision stands.", DecisionAnswer),
      404: problem("No such entry."),
      409: problem("It is still malformed."),
    },
  });

/** Routes to see and decide about entries that were set aside. */
export const quarantineRoutes = (deps: () => QuarantineHttpDeps): OpenAPIHono<WebEnv> =>
  createRoutes()
    .openapi(list, async (c) => {
      const { state, ...filter } = c.req.valid("query");
      const isOpen = state === "all" ? undefined : state === "open";
      const page = await deps().quarantineLedger.list({ ...filter, isOpen }, c.env.run.signal);
      return c.json({ rows: [...page.rows], next: page.next }, 200);
    })
    .openapi(
      decide("retry", "Judge an entry once more, whatever its age, and book it"),
      async (c) => {
        const { id } = c.req.valid("param");
        const decision = { who: c.var.caller.name, reason: c.req.valid("json").reason };
        const { quarantineLedger } = deps();
        const decided = await retryQuarantined(quarantineLedger, id, decision, c.env.run.signal);
        c.env.run.note({ quarantineId: id, decided: decided.kind });
        return c.json(toAnswer(decided), 200);
      },
    )
    .openapi(decide("discard", "Decide that an entry is never booked"), async (c) => {
      const { id } = c.req.valid("param");
      const decision = { who: c.var.caller.name, reason: c.req.valid("json").reason };
      const decided = await deps().quarantineLedger.discard(id, decision, c.env.run.signal);
      c.env.run.note({ quarantineId: id, decided: decided.kind });
      return c.json(toAnswer(decided), 200);
    });

function toAnswer(decided: Decided): z.output<typeof DecisionAnswer> {
  switch (decided.kind) {
    case "unknown":
      throw permanent("usage_quarantine_unknown");
    case "resolved":
      return { outcome: "already_decided", resolution: decided.resolution };
    case "discarded":
      return { outcome: "discarded" };
    default:
      return { outcome: decided.kind, period: decided.period };
  }
}
