import { z } from "zod";
import { AppError } from "../kernel/errors.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { AlertLedger } from "./alerts.ts";

const Level = z.enum(["info", "warning", "critical"]);
const Id = z.string().regex(/^\d+$/);

const RaiseReply = z.object({
  id: Id,
  state: z.enum(["firing", "acknowledged"]),
  count: z.string(),
  notice: z.enum(["new", "level", "doubled", "reminder"]).nullable(),
});
const ResolveReply = z.discriminatedUnion("status", [
  z.object({
    status: z.literal("resolved"),
    id: Id,
    level: Level,
    count: z.string(),
    firstSeen: z.string(),
  }),
  z.object({ status: z.literal("none") }),
]);
const AcknowledgeReply = z.discriminatedUnion("status", [
  z.object({
    status: z.enum(["acknowledged", "already"]),
    who: z.string().nullable(),
    at: z.string().nullable(),
  }),
  z.object({ status: z.literal("resolved") }),
  z.object({ status: z.literal("unknown") }),
]);

export const IncidentSchema = z.object({
  id: Id,
  key: z.string(),
  kind: z.string().describe("The key up to its first colon."),
  level: Level,
  state: z.enum(["firing", "acknowledged", "resolved"]),
  title: z.string(),
  runbook: z.string(),
  value: z.string().nullable(),
  threshold: z.string().nullable(),
  evidence: z.record(z.string(), z.unknown()),
  count: z.string().describe("Reports so far."),
  firstSeen: z.string(),
  lastSeen: z.string(),
  noticedAt: z.string(),
  acknowledgedAt: z.string().nullable(),
  acknowledgedBy: z.string().nullable(),
  acknowledgedReason: z.string().nullable(),
  resolvedAt: z.string().nullable(),
});
const Page = z.object({ rows: z.array(IncidentSchema), next: z.string().nullable() });

export type Acknowledged = z.output<typeof AcknowledgeReply>;

export interface IncidentFilter {
  readonly state: "open" | "firing" | "acknowledged" | "resolved" | "all";
  readonly level?: string | undefined;
  readonly kind?: string | undefined;
  /** Id of the last row of the page before. */
  readonly before?: string | undefined;
  readonly limit: number;
}

export interface Incidents {
  list(filter: IncidentFilter, signal: AbortSignal): Promise<z.output<typeof Page>>;
  /** The first one stands. */
  acknowledge(
    id: string,
    decision: { readonly who: string; readonly reason: string },
    now: number,
    signal: AbortSignal,
  ): Promise<Acknowledged>;
}

function parseReply<T extends z.ZodType>(schema: T, row: unknown): z.output<T> {
  const parsed = schema.safeParse(row);
  if (parsed.success) return parsed.data;
  throw new AppError("bug", "database_reply_unexpected", {
    details: { what: "alert" },
    cause: parsed.error,
  });
}

const instant = (ms: number): string => new Date(ms).toISOString();

export const alertLedger = (rpc: Rpc): AlertLedger => ({
  raise: async ({ key, level, title, runbook, value, threshold, evidence }, now, signal) => {
    const args = {
      p_key: key,
      p_level: level,
      p_title: title,
      p_runbook: runbook,
      p_value: value ?? null,
      p_threshold: threshold ?? null,
      p_evidence: evidence,
      p_now: instant(now),
    };
    return parseReply(RaiseReply, await rpc("alert_raise", args, signal));
  },

  resolve: async (key, now, signal) => {
    const reply = await rpc("alert_resolve", { p_key: key, p_now: instant(now) }, signal);
    const resolved = parseReply(ResolveReply, reply);
    return resolved.status === "none" ? undefined : resolved;
  },
});

export const incidents = (rpc: Rpc): Incidents => ({
  list: async ({ state, level, kind, before, limit }, signal) => {
    const args = {
      p_state: state,
      p_level: level ?? null,
      p_kind: kind ?? null,
      p_before: before ?? null,
      p_limit: limit,
    };
    return parseReply(Page, await rpc("alert_read", args, signal));
  },

  acknowledge: async (id, { who, reason }, now, signal) => {
    const args = { p_id: id, p_who: who, p_reason: reason, p_now: instant(now) };
    return parseReply(AcknowledgeReply, await rpc("alert_acknowledge", args, signal));
  },
});
