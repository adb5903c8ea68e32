import { z } from "zod";
import { AppError, permanent } from "../kernel/errors.ts";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type {
  Claimant,
  ClaimedRun,
  JobChange,
  JobControl,
  JobLedger,
  RunLease,
  RunSweeper,
} from "./job-ledger.ts";

const Instant = z.string().transform((text) => Date.parse(text));
const optional = <T extends z.ZodType>(schema: T) =>
  schema.nullish().transform((value) => value ?? undefined);

const SyncReply = z.object({
  now: Instant,
  jobs: z.array(
    z.object({
      id: z.string(),
      isEnabled: z.boolean(),
      since: Instant,
      lastTickAt: optional(Instant),
      plannedFrom: Instant,
      last: optional(
        z.object({
          runId: z.uuid(),
          status: z.enum(["succeeded", "failed", "missed", "abandoned"]),
          reason: optional(z.string()),
          dueAt: Instant,
        }),
      ),
    }),
  ),
});

const Claimed = z.object({
  kind: z.literal("claimed"),
  runId: z.uuid(),
  fence: z.int(),
  attempt: z.int(),
  slotAt: optional(Instant),
  lateMs: z.number(),
});
const Early = z.object({ kind: z.literal("early"), waitMs: z.number() });
const SlotReply = z.discriminatedUnion("kind", [
  Claimed,
  z.object({ kind: z.literal("taken"), runId: z.uuid(), status: z.string() }),
  z.object({ kind: z.enum(["skipped", "missed"]), runId: z.uuid(), reason: z.string() }),
  z.object({ kind: z.literal("busy"), runId: z.uuid() }),
  Early,
]);
const RunReply = z.discriminatedUnion("kind", [
  Claimed.extend({ jobId: z.string() }),
  z.object({ kind: z.literal("waiting"), reason: z.string(), waitMs: z.number() }),
  z.object({ kind: z.literal("taken"), status: z.string() }),
  z.object({ kind: z.literal("ended"), status: z.string(), reason: z.string() }),
  z.object({ kind: z.literal("unknown") }),
]);
const BeatReply = z.object({ kind: z.enum(["ok", "cancel", "stale"]) });
const FinishReply = z.discriminatedUnion("kind", [
  z.object({ kind: z.enum(["finished", "already"]), status: z.string() }),
  z.object({ kind: z.literal("queued"), waitMs: z.number() }),
  z.object({ kind: z.literal("stale") }),
]);
const SweptItem = z.object({ runId: z.uuid(), jobId: z.string() });
const SweepReply = z.object({
  requeued: z.array(SweptItem),
  abandoned: z.array(SweptItem),
  ended: z.int(),
  send: z.array(SweptItem),
});
const ManualReply = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("started"), runId: z.uuid() }),
  z.object({ kind: z.enum(["known", "busy"]), runId: z.uuid(), status: z.string() }),
]);
const CancelReply = z.discriminatedUnion("kind", [
  z.object({
    kind: z.enum(["cancelled", "requested", "already", "ended"]),
    status: z.string(),
  }),
  z.object({ kind: z.literal("unknown") }),
]);
const EnabledReply = z.object({
  kind: z.enum(["changed", "already"]),
  isEnabled: z.boolean(),
  disabledAt: optional(z.string()),
  disabledBy: optional(z.string()),
  disabledReason: optional(z.string()),
});

function parseReply<T extends z.ZodType>(schema: T, reply: unknown, what: string): z.output<T> {
  const parsed = schema.safeParse(reply);
  if (parsed.success) return parsed.data;
  const details = { what };
  throw new AppError("bug", "database_reply_unexpected", { details, cause: parsed.error });
}

const instant = (ms: number): string => new Date(ms).toISOString();

const claimantArgs = ({ instance, leaseMs, clientNow }: Claimant) => ({
  p_instance: instance,
  p_lease_ms: leaseMs,
  p_client_now: instant(clientNow),
});

const toRun = ({
  runId,
  fence,
  attempt,
  slotAt,
  lateMs,
}: z.output<typeof Claimed>): ClaimedRun => ({ runId, fence, attempt, slotAt, lateMs });

export const jobLedger = (rpc: Rpc): JobLedger => ({
  sync: async (jobs, isTick, signal) => {
    const reply = await rpc("job_sync", { p_jobs: jobs, p_tick: isTick }, signal);
    const { now, jobs: states } = parseReply(SyncReply, reply, "jobs");
    return { now, states };
  },

  claimSlot: async ({ jobId, slotAt, trigger, covered, missed, claimant }, signal) => {
    const args = {
      p_job: jobId,
      p_slot: instant(slotAt),
      p_trigger: trigger,
      ...claimantArgs(claimant),
      p_covered: covered.map(instant),
      p_missed: missed.map(instant),
    };
    const reply = await named(jobId, rpc("job_claim_slot", args, signal));
    const claim = parseReply(SlotReply, reply, "claimed slot");
    return claim.kind === "claimed" ? { kind: "claimed", run: toRun(claim) } : claim;
  },

  claimRun: async (runId, claimant, signal) => {
    const args = { p_run: runId, ...claimantArgs(claimant) };
    const claim = parseReply(RunReply, await rpc("job_claim_run", args, signal), "claimed run");
    return claim.kind === "claimed"
      ? { kind: "claimed", jobId: claim.jobId, run: toRun(claim) }
      : claim;
  },

  recordMissed: async (jobId, slots, signal) => {
    const args = {
      p_job: jobId,
      p_slots: slots.map(instant),
      p_status: "missed",
      p_reason: "too_late",
    };
    await named(jobId, rpc("job_record_slots", args, signal));
  },
});

export const runLease = (rpc: Rpc): RunLease => ({
  heartbeat: async ({ runId, fence }, leaseMs, progress, signal) => {
    const args = {
      p_run: runId,
      p_fence: fence,
      p_lease_ms: leaseMs,
      p_progress: progress ?? null,
    };
    return parseReply(BeatReply, await rpc("job_heartbeat", args, signal), "heartbeat").kind;
  },

  finish: async ({ runId, fence }, ending, signal) => {
    const { status, reason, errorCode, errorText, report, retryMs } = ending;
    const args = {
      p_run: runId,
      p_fence: fence,
      p_status: status,
      p_reason: reason ?? null,
      p_error_code: errorCode ?? null,
      p_error_text: errorText ?? null,
      p_report: report ?? null,
      p_retry_ms: retryMs ?? null,
    };
    return parseReply(FinishReply, await rpc("job_finish", args, signal), "ended run");
  },
});

const SWEEP_MAX = 100;

export const runSweeper = (rpc: Rpc): RunSweeper => ({
  sweep: async (signal) =>
    parseReply(SweepReply, await rpc("job_sweep_runs", { p_limit: SWEEP_MAX }, signal), "sweep"),
});

const changeArgs = ({ who, reason, requestId }: JobChange) => ({
  p_who: who,
  p_reason: reason ?? null,
  p_request_id: requestId ?? null,
});

export const jobControl = (rpc: Rpc): JobControl => ({
  startManual: async (jobId, key, change, signal) => {
    const args = { p_job: jobId, p_key: key ?? null, ...changeArgs(change) };
    const reply = await named(jobId, rpc("job_start_manual", args, signal));
    return parseReply(ManualReply, reply, "manual run");
  },

  requestCancel: async (jobId, runId, change, signal) => {
    const args = { p_job: jobId, p_run: runId, ...changeArgs(change) };
    return parseReply(CancelReply, await rpc("job_request_cancel", args, signal), "cancel");
  },

  setEnabled: async (jobId, isEnabled, change, signal) => {
    const args = { p_job: jobId, p_enabled: isEnabled, ...changeArgs(change) };
    const reply = await named(jobId, rpc("job_set_enabled", args, signal));
    return parseReply(EnabledReply, reply, "enabled job");
  },
});

/** The one error of these functions that has a meaning of its own for callers. */
async function named(jobId: string, reply: Promise<unknown>): Promise<unknown> {
  try {
    return await reply;
  } catch (error) {
    if (error instanceof AppError && error.details["sqlstate"] === "JB002") {
      throw permanent("job_unknown", { job: jobId }, error);
    }
    throw error;
  }
}
