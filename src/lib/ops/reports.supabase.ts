import { z } from "zod";
import { AppError } from "../kernel/errors.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { Day } from "./exports-plan.ts";
import type { ReportFacts, ReportStore } from "./reports.ts";
import { ReportDataSchema, type ReportSections, SECTIONS } from "./reports-data.ts";

export const ReportRowSchema = z.object({
  day: z.string(),
  made: z.int().describe("How often it was made."),
  mail: z
    .enum(["sending", "sent", "failed", "unknown"])
    .nullable()
    .describe("What became of its mail; null = it was not mailed."),
  createdAt: z.string(),
  updatedAt: z.string(),
  mailedAt: z.string().nullable(),
});
const ListReply = z.object({ rows: z.array(ReportRowSchema), next: z.string().nullable() });
const DataReply = z.object({ data: ReportDataSchema }).nullable();
const HtmlReply = z.object({ html: z.string() }).nullable();

export interface ReportReads {
  list(
    page: { readonly before?: Day | undefined; readonly limit: number },
    signal: AbortSignal,
  ): Promise<z.output<typeof ListReply>>;
  data(day: Day, signal: AbortSignal): Promise<z.output<typeof ReportDataSchema> | undefined>;
  html(day: Day, signal: AbortSignal): Promise<string | undefined>;
}

function parseReply<T extends z.ZodType>(schema: T, reply: unknown): z.output<T> {
  const parsed = schema.safeParse(reply);
  if (parsed.success) return parsed.data;
  const details = { what: "report" };
  throw new AppError("bug", "database_reply_unexpected", { details, cause: parsed.error });
}

/** Each part is one read of a whole day: `rpc` is one that waits for slow statements. */
export function reportFacts(rpc: Rpc): ReportFacts {
  const read =
    <T extends z.ZodType>(name: keyof ReportSections, section: T) =>
    async (day: Day, signal: AbortSignal): Promise<z.output<T>> =>
      parseReply(section, await rpc(`report_read_${name}`, { p_day: day }, signal));
  return {
    jobs: read("jobs", SECTIONS.jobs),
    health: read("health", SECTIONS.health),
    usage: read("usage", SECTIONS.usage),
    work: read("work", SECTIONS.work),
    alerts: read("alerts", SECTIONS.alerts),
  };
}

export const reportStore = (rpc: Rpc): ReportStore => ({
  store: async (day, data, html, signal) => {
    await rpc("report_store", { p_day: day, p_data: data, p_html: html }, signal);
  },
  claimMail: async (day, signal) =>
    parseReply(z.boolean(), await rpc("report_claim_mail", { p_day: day }, signal)),
  settleMail: async (day, mail, signal) => {
    await rpc("report_settle_mail", { p_day: day, p_mail: mail }, signal);
  },
});

export const reportReads = (rpc: Rpc): ReportReads => ({
  list: async ({ before, limit }, signal) => {
    const args = { p_before: before ?? null, p_limit: limit };
    return parseReply(ListReply, await rpc("report_list", args, signal));
  },
  data: async (day, signal) => {
    const reply = await rpc("report_read", { p_day: day, p_html: false }, signal);
    return parseReply(DataReply, reply)?.data;
  },
  html: async (day, signal) => {
    const reply = await rpc("report_read", { p_day: day, p_html: true }, signal);
    return parseReply(HtmlReply, reply)?.html;
  },
});
