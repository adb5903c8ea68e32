import { z } from "zod";

/** Messages of a run that is longer than this are not ours. */
export const PARTS_MAX = 10_000;

const Amount = z.string().regex(/^-?\d{1,40}$/);
const Cursor = z.string().regex(/^\d{1,40}$/);

/** Where a drain stands. Each step reads one page and says where the next one starts. */
export const LegacyPositionSchema = z.discriminatedUnion("phase", [
  /** The pending set, by the cursor of its scan. */
  z.object({ phase: z.literal("pending"), cursor: Cursor }),
  /** Counters that nobody remembers yet, by the cursor of the scan. */
  z.object({ phase: z.literal("discover"), cursor: Cursor }),
  /** Counters that are remembered, by tenant and key. */
  z.object({
    phase: z.literal("poll"),
    tenant: z.string().max(200),
    key: z.string().max(500),
    /** What that tenant had booked before its first counter was read: its counters go on in the next page. */
    booked: z.object({ direct: Amount, pending: Amount, hasGap: z.boolean() }).optional(),
  }),
  z.object({ phase: z.literal("finish"), counters: z.enum(["off", "compared", "cluster"]) }),
]);
export type LegacyPosition = z.infer<typeof LegacyPositionSchema>;

/** "Drain the legacy lanes from here." Unknown fields are ignored: old and new code run together. */
export const LegacyMessageSchema = z.object({
  v: z.literal(1),
  job: z.literal("drain_legacy"),
  runId: z.uuid(),
  /** Which continuation of the run; starts at 0. */
  part: z.int().min(0).max(PARTS_MAX).default(0),
  position: LegacyPositionSchema,
  /** W3C trace context of the run that planned it: queue messages carry none of their own. */
  traceparent: z.string().max(100).optional(),
});
export type LegacyMessage = z.infer<typeof LegacyMessageSchema>;
