import { z } from "zod";
import { AppError } from "../kernel/errors.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import { FORMATS, type Row } from "./export-format.ts";
import type { ExportLedger, ExportPage, ExportRows } from "./exports.ts";
import type { ExpiredExports } from "./exports-cleanup.ts";
import type { Day, ExportSource } from "./exports-plan.ts";

const Count = z.string().regex(/^\d+$/);
const FileRow = z.object({
  name: z.string(),
  path: z.string(),
  rows: Count,
  bytes: Count,
  contentBytes: Count,
  sha256: z.string(),
});
const OpenReply = z.discriminatedUnion("status", [
  z.object({
    status: z.literal("open"),
    attempt: z.int().min(1),
    format: z.enum(FORMATS),
    ledgerAfter: Count,
    ledgerTo: Count,
    files: z.array(FileRow),
  }),
  z.object({ status: z.literal("finished") }),
]);
const WriteReply = z.object({ status: z.enum(["kept", "finished", "stale"]) });
/** Millions of cells are checked by hand: a schema would take longer than reading them. */
const PageReply = z.object({ rows: z.custom<readonly Row[]>(isRows), next: z.unknown() });

function isRows(value: unknown): boolean {
  return Array.isArray(value) && value.every((row) => Array.isArray(row) && row.every(isCell));
}

const isCell = (cell: unknown): boolean =>
  cell === null || typeof cell === "string" || typeof cell === "number";

export const ManifestSchema = z.object({
  version: z.literal(1),
  week: z.string(),
  format: z.enum(FORMATS),
  compression: z.literal("gzip"),
  rows: Count,
  files: z.array(FileRow.extend({ columns: z.array(z.string()) })),
});
export const ExportRowSchema = z.object({
  week: z.string().describe("Its first day, a Sunday, in UTC."),
  format: z.enum(FORMATS),
  state: z.enum(["running", "finished"]),
  files: z.int(),
  rows: Count,
  bytes: Count.describe("As stored, compressed."),
  startedAt: z.string(),
  finishedAt: z.string().nullable(),
});
const ListReply = z.object({ rows: z.array(ExportRowSchema), next: z.string().nullable() });

export interface ExportReads {
  list(
    page: { readonly before?: Day | undefined; readonly limit: number },
    signal: AbortSignal,
  ): Promise<z.output<typeof ListReply>>;
  /** Undefined when there is no such export, or it is not finished. */
  manifest(week: Day, signal: AbortSignal): Promise<z.output<typeof ManifestSchema> | undefined>;
}

function parseReply<T extends z.ZodType>(schema: T, reply: unknown): z.output<T> {
  const parsed = schema.safeParse(reply);
  if (parsed.success) return parsed.data;
  const details = { what: "export" };
  throw new AppError("bug", "database_reply_unexpected", { details, cause: parsed.error });
}

export const exportLedger = (rpc: Rpc): ExportLedger => ({
  open: async (week, format, signal) => {
    const reply = await rpc("export_open", { p_week: week, p_format: format }, signal);
    const opened = parseReply(OpenReply, reply);
    return opened.status === "finished" ? undefined : opened;
  },

  keepFile: async (week, attempt, file, signal) => {
    const args = {
      p_week: week,
      p_attempt: attempt,
      p_name: file.name,
      p_path: file.path,
      p_rows: file.rows,
      p_bytes: file.bytes,
      p_content_bytes: file.contentBytes,
      p_sha256: file.sha256,
    };
    return parseReply(WriteReply, await rpc("export_keep_file", args, signal)).status === "kept";
  },

  finish: async (week, attempt, manifest, signal) => {
    const args = { p_week: week, p_attempt: attempt, p_manifest: manifest };
    return parseReply(WriteReply, await rpc("export_finish", args, signal)).status === "finished";
  },
});

/** In the order of the arrays that the functions answer with. */
const COLUMNS: Readonly<Record<ExportSource["kind"], readonly string[]>> = {
  events: [
    "day",
    "uid",
    "tenant",
    "period",
    "token_type",
    "model",
    "agent_id",
    "conversation_id",
    "tokens",
    "batch_id",
  ],
  ledger: [
    "id",
    "booked_at",
    "tenant",
    "period",
    "usage_period",
    "token_type",
    "model",
    "tokens",
    "events",
    "reason",
    "lane",
    "batch_id",
  ],
  totals: ["tenant", "period", "tokens", "events", "late", "future", "legacy"],
  runs: [
    "id",
    "job_id",
    "slot_at",
    "trigger",
    "status",
    "reason",
    "started_at",
    "finished_at",
    "duration_ms",
    "late_ms",
    "attempt",
    "error_code",
  ],
};

export const exportRows = (rpc: Rpc): ExportRows => ({
  columns: ({ kind }) => COLUMNS[kind],
  read: async (source, after, limit, signal): Promise<ExportPage> => {
    const { fn, args } = callOf(source, after ?? null);
    const { rows, next } = parseReply(
      PageReply,
      await rpc(fn, { ...args, p_limit: limit }, signal),
    );
    return { rows, next: next ?? undefined };
  },
});

function callOf(
  source: ExportSource,
  after: unknown,
): { fn: string; args: Record<string, unknown> } {
  switch (source.kind) {
    case "events":
      return { fn: "export_read_events", args: { p_day: source.day, p_after: after } };
    case "ledger": {
      const args = { p_week: source.week, p_after: after ?? source.after, p_to: source.to };
      return { fn: "export_read_ledger", args };
    }
    case "totals":
      return { fn: "export_read_totals", args: { p_periods: source.periods, p_after: after } };
    case "runs":
      return { fn: "export_read_runs", args: { p_week: source.week, p_after: after } };
  }
}

export const exportReads = (rpc: Rpc): ExportReads => ({
  list: async ({ before, limit }, signal) => {
    const args = { p_before: before ?? null, p_limit: limit };
    return parseReply(ListReply, await rpc("export_list", args, signal));
  },
  manifest: async (week, signal) => {
    const reply = await rpc("export_read", { p_week: week }, signal);
    return reply === null ? undefined : parseReply(ManifestSchema, reply);
  },
});

const Expired = z.array(z.object({ week: z.string(), paths: z.array(z.string()) }));

export const expiredExports = (rpc: Rpc): ExpiredExports => ({
  expired: async (before, limit, signal) => {
    const args = { p_before: before, p_limit: limit };
    return parseReply(Expired, await rpc("export_expired", args, signal));
  },
  forget: async (week, { runId, fence }, signal) => {
    await rpc("export_forget", { p_week: week, p_run: runId, p_fence: fence }, signal);
  },
  knownPaths: async (paths, signal) => {
    const reply = await rpc("export_known_paths", { p_paths: paths }, signal);
    return parseReply(z.array(z.string()), reply);
  },
});
