import { z } from "zod";
import { AppError } from "../kernel/errors.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { ChannelReads } from "./alert-channel-alerts.ts";
import type { NoticeLedger } from "./alert-notifications.ts";

const Id = z.string().regex(/^\d+$/);
const Level = z.enum(["info", "warning", "critical"]);

const NoticeRow = z.object({
  id: Id,
  reason: z.enum(["new", "level", "doubled", "reminder", "resolved"]),
  level: Level,
  value: z.string().nullable(),
  noticedAt: z.string(),
  key: z.string(),
  title: z.string(),
  runbook: z.string(),
  threshold: z.string().nullable(),
  count: z.string(),
  firstSeen: z.string(),
  evidence: z.record(z.string(), z.unknown()),
});
const Messages = z.array(
  z.object({ id: Id, attempt: z.int().min(1), notices: z.array(NoticeRow).min(1) }),
);
const Channels = z.array(
  z.object({
    channel: z.string(),
    sent: z.int(),
    unknown: z.int(),
    dead: z.int(),
    waiting: z.int(),
    last: z.enum(["sent", "unknown", "dead"]).nullable(),
    error: z.string().nullable(),
  }),
);

function parseReply<T extends z.ZodType>(schema: T, reply: unknown): z.output<T> {
  const parsed = schema.safeParse(reply);
  if (parsed.success) return parsed.data;
  const details = { what: "alert messages" };
  throw new AppError("bug", "database_reply_unexpected", { details, cause: parsed.error });
}

export const noticeLedger = (rpc: Rpc): NoticeLedger => ({
  claim: async ({ channel, windowSeconds, windowMax, leaseSeconds }, signal) => {
    const args = {
      p_channel: channel,
      p_window_seconds: windowSeconds,
      p_window_max: windowMax,
      p_lease_seconds: leaseSeconds,
    };
    return parseReply(Messages, await rpc("alert_claim_messages", args, signal));
  },

  settle: async ({ id, attempt }, { outcome, error, retrySeconds, attemptsMax }, signal) => {
    const args = {
      p_message: id,
      p_attempt: attempt,
      p_outcome: outcome,
      p_error: error,
      p_retry_seconds: retrySeconds,
      p_attempts_max: attemptsMax,
    };
    await rpc("alert_settle_message", args, signal);
  },
});

export const channelReads = (rpc: Rpc): ChannelReads => ({
  read: async (seconds, signal) =>
    parseReply(Channels, await rpc("alert_read_channels", { p_seconds: seconds }, signal)),
});
