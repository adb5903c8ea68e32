import { z } from "zod";

const Count = z.int().min(0);
/** Decimal strings: sums may exceed 2^53. */
const Amount = z.string().regex(/^-?\d+(\.\d+)?$/);
const Ms = z.number().nullable();

const JobsSection = z.array(
  z.object({
    id: z.string(),
    slots: Count,
    succeeded: Count,
    failed: Count,
    skipped: Count,
    missed: Count,
    caughtUp: Count,
    abandoned: Count,
    cancelled: Count,
    open: Count,
    p50Ms: Ms,
    p95Ms: Ms,
    maxMs: Ms,
    lateMaxMs: Ms,
    errors: z.record(z.string(), Count),
  }),
);

const HealthSection = z.object({
  checks: Count.describe("Minutes in which health_check could judge."),
  available: Count.describe("Minutes in which nothing was unavailable."),
  components: z.record(
    z.string(),
    z.object({ available: Count, degraded: Count, unavailable: Count }),
  ),
  hours: z.array(z.object({ hour: z.int(), checks: Count, available: Count })),
});

const UsageSection = z.object({
  tokens: Amount,
  events: Amount,
  hours: z.array(z.object({ hour: z.int(), tokens: Amount })),
  reasons: z.array(z.object({ reason: z.string(), tokens: Amount, events: Amount })),
  types: z.array(z.object({ type: z.string(), tokens: Amount, events: Amount })),
  tenants: z.array(z.object({ tenant: z.string(), tokens: Amount })),
  drifts: z.array(z.object({ cause: z.string(), found: Count, repaired: Count, tokens: Amount })),
  quarantined: Count.describe("Entries that wait for a decision now."),
  gaps: Amount.describe("Tokens that are known to be missing now."),
});

const WorkSection = z.object({
  ended: z.array(
    z.object({
      kind: z.string(),
      succeeded: Count,
      dead: Count,
      cancelled: Count,
      p50Ms: Ms,
      p95Ms: Ms,
    }),
  ),
  codes: z.array(z.object({ code: z.string(), dead: Count })),
  now: z.record(z.string(), z.string()),
});

const AlertsSection = z.object({
  raised: Count,
  resolved: Count,
  open: Count,
  rows: z.array(
    z.object({
      key: z.string(),
      level: z.enum(["info", "warning", "critical"]),
      title: z.string(),
      firstSeen: z.string(),
      resolvedAt: z.string().nullable(),
      count: z.string(),
    }),
  ),
});

export const SECTIONS = {
  jobs: JobsSection,
  health: HealthSection,
  usage: UsageSection,
  work: WorkSection,
  alerts: AlertsSection,
} as const;

export type ReportSections = {
  readonly [Name in keyof typeof SECTIONS]: z.output<(typeof SECTIONS)[Name]>;
};

export const ReportDataSchema = z.object({
  version: z.literal(1),
  day: z.string().describe("In UTC."),
  madeAt: z.string(),
  serviceName: z.string(),
  environment: z.string(),
  missing: z.array(z.string()).describe("Parts whose facts could not be read."),
  jobs: JobsSection.nullable(),
  health: HealthSection.nullable(),
  usage: UsageSection.nullable(),
  work: WorkSection.nullable(),
  alerts: AlertsSection.nullable(),
});
export type ReportData = z.output<typeof ReportDataSchema>;
