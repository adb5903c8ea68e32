import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { permanent } from "../../kernel/errors.ts";
import { createRoutes, json, needsRole, problem, type WebEnv } from "../../runtime/routes.http.ts";
import { TenantSchema } from "../usage-record.ts";
import { describeLanes, type LaneFacts } from "./describe-lanes.ts";
import {
  LegacyFindingSchema,
  type LegacyReads,
  LegacyRunSchema,
  TenantApartSchema,
} from "./legacy-reads.supabase.ts";
import { type PreviewLegacyDeps, previewLegacy } from "./preview-legacy.ts";

const ROWS_MAX = 200;
const ROWS_DEFAULT = 20;
const PREVIEW_MAX = 5000;
const PREVIEW_DEFAULT = 1000;
const REASON_CHARACTERS_MAX = 500;

export interface LegacyHttpDeps extends PreviewLegacyDeps {
  readonly legacyReads: LegacyReads;
}

const Amount = z.string().openapi({ example: "1234" });
const Lane = z
  .object({
    lane: z.enum(["log", "legacy_pending", "legacy_direct", "legacy_counter"]),
    guarantee: z.string(),
    explanation: z.string(),
    state: z.enum(["on", "off", "cluster"]),
    uses: z.int().nullable(),
    duplicates: z.int().nullable(),
    tokens: Amount.nullable(),
    lastBookedOn: z.string().nullable(),
  })
  .openapi("UsageLane");

// A schema can be named only where it is made after the library extended zod.
const Run = z.object(LegacyRunSchema.shape).openapi("LegacyRun");
const LegacyState = z
  .object({
    days: z.int().describe("How many days the numbers of the lanes cover."),
    lanes: z.array(Lane),
    countersRemembered: z.int(),
    lastRun: Run.nullable(),
    runs: z.array(Run),
    findings: z.array(z.object(LegacyFindingSchema.shape).openapi("LegacyFinding")),
    tenantsApart: z.array(z.object(TenantApartSchema.shape).openapi("LegacyTenant")),
  })
  .openapi("LegacyUsage");

const Off = z.object({ state: z.enum(["off", "cluster"]) });
const PendingPreview = z.union([
  Off,
  z.object({
    state: z.literal("read"),
    size: z.int(),
    read: z.int(),
    isComplete: z.boolean(),
    wouldBook: z.object({ uses: z.int(), tokens: Amount }),
    duplicates: z.int(),
    wouldSetAside: z.int(),
    tenants: z.array(z.object({ tenant: z.string(), uses: z.int(), tokens: Amount })),
    samples: z.array(
      z.object({
        tenant: z.string(),
        tokens: Amount,
        type: z.string(),
        model: z.string(),
        period: z.int(),
      }),
    ),
    setAsideSamples: z.array(z.object({ error: z.string(), raw: z.string() })),
  }),
]);
const CounterPreview = z.union([
  Off,
  z.object({
    state: z.literal("read"),
    read: z.int(),
    isComplete: z.boolean(),
    isBased: z.boolean(),
    wouldRemember: z.int(),
    gaps: z.int(),
    grown: Amount,
    wouldBook: Amount,
    tenants: z.array(z.object({ tenant: z.string(), grown: Amount, books: z.boolean() })),
    samples: z.array(
      z.object({
        key: z.string(),
        kind: z.enum(["first", "growth", "gap"]),
        from: Amount,
        to: Amount,
      }),
    ),
  }),
]);

const readState = createRoute({
  method: "get",
  path: "/usage/legacy",
  summary:
    "The lanes of older producers: what each guarantees, what it booked, what does not add up",
  security: needsRole("viewer"),
  request: {
    query: z.object({
      limit: z.coerce.number().int().min(1).max(ROWS_MAX).default(ROWS_DEFAULT),
    }),
  },
  responses: { 200: json("The lanes; lists are newest or worst first.", LegacyState) },
});

const preview = createRoute({
  method: "get",
  path: "/usage/legacy/preview",
  summary: "What the next drain of the legacy lanes would book, by tenant; changes nothing",
  security: needsRole("operator"),
  request: {
    query: z.object({
      limit: z.coerce
        .number()
        .int()
        .min(1)
        .max(PREVIEW_MAX)
        .default(PREVIEW_DEFAULT)
        .describe("Members and counters that are read."),
    }),
  },
  responses: {
    200: json(
      "What would be booked, with samples.",
      z
        .object({ asOf: z.string(), pending: PendingPreview, counters: CounterPreview })
        .openapi("LegacyPreview"),
    ),
  },
});

const acceptDrift = createRoute({
  method: "post",
  path: "/usage/legacy/tenants/{tenant}/accept",
  summary: "Declare that what a tenant is apart is explained; the next difference starts from zero",
  security: needsRole("operator"),
  request: {
    params: z.object({ tenant: TenantSchema }),
    body: {
      required: true,
      content: {
        "application/json": {
          schema: z.strictObject({
            reason: z.string().trim().min(3, "say why").max(REASON_CHARACTERS_MAX),
          }),
        },
      },
    },
  },
  responses: {
    200: json("What was apart.", z.object({ tenant: z.string(), accepted: Amount })),
    404: problem("The tenant is not apart."),
  },
});

/** Routes of the legacy lanes. They come before `/usage/{tenant}`, which would take them for a tenant. */
export const legacyRoutes = (deps: () => LegacyHttpDeps): OpenAPIHono<WebEnv> =>
  createRoutes()
    .openapi(readState, async (c) => {
      const { legacyReads, legacyConfig } = deps();
      const state = await legacyReads.state(c.req.valid("query").limit, c.env.run.signal);
      const facts: LaneFacts = { lanes: state.lanes, lastRun: state.runs[0], config: legacyConfig };
      return c.json(
        {
          days: state.days,
          lanes: describeLanes(facts),
          countersRemembered: state.counters,
          lastRun: state.runs[0] ?? null,
          runs: state.runs,
          findings: state.findings,
          tenantsApart: state.tenants,
        },
        200,
      );
    })
    .openapi(preview, async (c) => {
      const shown = await previewLegacy(deps(), c.req.valid("query").limit, c.env.run.signal);
      return c.json(shown, 200);
    })
    .openapi(acceptDrift, async (c) => {
      const { tenant } = c.req.valid("param");
      const decision = { who: c.var.caller.name, reason: c.req.valid("json").reason };
      const accepted = await deps().legacyReads.acceptDrift(tenant, decision, c.env.run.signal);
      if (accepted === undefined) throw permanent("usage_legacy_not_apart");
      return c.json({ tenant, accepted }, 200);
    });
