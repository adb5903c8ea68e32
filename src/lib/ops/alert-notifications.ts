import type { Clock } from "../kernel/clock.ts";
import { callWithin } from "../kernel/deadline.ts";
import { transient } from "../kernel/errors.ts";
import { backoffMs } from "../kernel/retry.ts";
import type { Run } from "../kernel/run.ts";
import type { NoticeMessage } from "./alert-notification-text.ts";

export const CHANNELS = ["slack", "teams", "email", "insights"] as const;
export type ChannelName = (typeof CHANNELS)[number];

/** What is known about a message after an attempt. Only what is known not to have arrived is tried again. */
export type SendOutcome =
  | { readonly kind: "sent" }
  /** It did not arrive, and may work later. */
  | { readonly kind: "failed"; readonly error: string; readonly retryAfterMs?: number | undefined }
  /** It did not arrive and never will: a wrong address, a revoked hook. */
  | { readonly kind: "refused"; readonly error: string }
  /** The answer was lost: it may have arrived. */
  | { readonly kind: "unknown"; readonly error: string };

export interface NoticeChannel {
  readonly name: ChannelName;
  /** Errors that it cannot classify count as unknown outcomes. */
  send(message: NoticeMessage, signal: AbortSignal): Promise<SendOutcome>;
}

export interface Claim {
  readonly channel: ChannelName;
  readonly windowSeconds: number;
  readonly windowMax: number;
  readonly leaseSeconds: number;
}

export interface Settlement {
  readonly outcome: SendOutcome["kind"] | "released";
  readonly error: string | null;
  readonly retrySeconds: number;
  readonly attemptsMax: number;
}

/** The messages, in Postgres. A message is claimed before it is sent and settled after. */
export interface NoticeLedger {
  claim(claim: Claim, signal: AbortSignal): Promise<readonly NoticeMessage[]>;
  settle(message: NoticeMessage, settlement: Settlement, signal: AbortSignal): Promise<void>;
}

export interface NotifyDeps {
  readonly clock: Clock;
  readonly noticeLedger: NoticeLedger;
  readonly noticeChannels: readonly NoticeChannel[];
}

/** What a channel did in one round. */
export interface ChannelReport {
  readonly sent: number;
  readonly failed: number;
  readonly refused: number;
  readonly unknown: number;
  /** Left for the next round because the time of this one was over. */
  readonly released: number;
  /** Why the channel did nothing at all. */
  readonly error?: string;
}

/** A channel never floods: what would be more becomes one summary. */
const WINDOW_SECONDS = 600;
const WINDOW_MAX = 20;
/** Of one message; the channels bound their own connections below it. */
const SEND_TIMEOUT_MS = 8000;
/** A round starts nothing after this. */
const ROUND_MS = 25_000;
/** Longer than a round with its last message: a sender that is past it is dead. */
const LEASE_SECONDS = 120;
/** About two hours of outage. */
const ATTEMPTS_MAX = 10;
const BACKOFF = { baseMs: 30_000, capMs: 1_800_000 };

/**
 * Sends what people have not been told yet, through every channel apart: the outage of one never touches another, nor
 * whoever raised the alert. At most once for each message unless it is known not to have arrived: the claim is stored
 * before the message leaves, so a crash between the two parks it as unknown.
 *
 * @throws never for a channel; its report says so.
 */
export async function deliverNotices(
  deps: NotifyDeps,
  run: Run,
): Promise<Partial<Record<ChannelName, ChannelReport>>> {
  const until = deps.clock.now() + ROUND_MS;
  const reports = await Promise.all(
    deps.noticeChannels.map(async (channel) => {
      const report = await deliverThrough(deps, channel, until, run).catch(
        (error: unknown): ChannelReport => {
          run.log.warn("alert_channel_failed", { channel: channel.name, error });
          return { ...NOTHING, error: error instanceof Error ? error.message : "unclassified" };
        },
      );
      return [channel.name, report] as const;
    }),
  );
  return Object.fromEntries(reports);
}

const NOTHING: ChannelReport = { sent: 0, failed: 0, refused: 0, unknown: 0, released: 0 };

async function deliverThrough(
  { clock, noticeLedger }: NotifyDeps,
  channel: NoticeChannel,
  until: number,
  run: Run,
): Promise<ChannelReport> {
  const claim = {
    channel: channel.name,
    windowSeconds: WINDOW_SECONDS,
    windowMax: WINDOW_MAX,
    leaseSeconds: LEASE_SECONDS,
  };
  const counts = { ...NOTHING };
  for (const message of await noticeLedger.claim(claim, run.signal)) {
    const isOver = clock.now() >= until || run.signal.aborted;
    const settlement = isOver ? RELEASED : settlementOf(await attempt(channel, message), message);
    counts[settlement.outcome] += 1;
    if (settlement.outcome === "unknown")
      run.log.warn("alert_notice_unknown", { channel: channel.name, messageId: message.id });
    await noticeLedger.settle(message, settlement, settleSignal(run.signal));
  }
  return counts;
}

const RELEASED: Settlement = {
  outcome: "released",
  error: null,
  retrySeconds: 0,
  attemptsMax: ATTEMPTS_MAX,
};

/** What was sent must be remembered even when the run is over. */
const settleSignal = (signal: AbortSignal): AbortSignal =>
  signal.aborted ? AbortSignal.timeout(SEND_TIMEOUT_MS) : signal;

/** A send that has begun is not broken off by the end of the run: the answer would be lost. */
async function attempt(channel: NoticeChannel, message: NoticeMessage): Promise<SendOutcome> {
  const limits = {
    signal: new AbortController().signal,
    timeoutMs: SEND_TIMEOUT_MS,
    timedOut: () => transient("deadline_exceeded", { ms: SEND_TIMEOUT_MS }),
  };
  try {
    return await callWithin(limits, (signal) => channel.send(message, signal));
  } catch (error) {
    return { kind: "unknown", error: error instanceof Error ? error.name : "unclassified" };
  }
}

function settlementOf(outcome: SendOutcome, message: NoticeMessage): Settlement {
  const asked = outcome.kind === "failed" ? (outcome.retryAfterMs ?? 0) : 0;
  const waitMs = Math.min(Math.max(asked, backoffMs(message.attempt, BACKOFF)), BACKOFF.capMs);
  return {
    outcome: outcome.kind,
    error: outcome.kind === "sent" ? null : outcome.error,
    retrySeconds: Math.ceil(waitMs / 1000),
    attemptsMax: ATTEMPTS_MAX,
  };
}
