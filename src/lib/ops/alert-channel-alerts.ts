import type { Alerts } from "../kernel/alerts.ts";

/** How a channel did in the time that was asked about. */
export interface ChannelState {
  readonly channel: string;
  readonly sent: number;
  readonly unknown: number;
  readonly dead: number;
  /** Known not to have arrived, to be tried again. */
  readonly waiting: number;
  /** State of the message that ended last. */
  readonly last: "sent" | "unknown" | "dead" | null;
  /** Code of the last failure. */
  readonly error: string | null;
}

export interface ChannelReads {
  read(seconds: number, signal: AbortSignal): Promise<readonly ChannelState[]>;
}

/** How far back a channel is judged. */
const JUDGED_SECONDS = 3 * 3600;
/** Messages that wait for another attempt: the channel is down, not just slow. */
const WAITING_MAX = 3;

/**
 * A channel that loses notices is itself something to know: the other channels tell it, and `GET /alerts` does. Over
 * when a later message arrived.
 */
export async function alertAboutChannels(
  { alerts, channelReads }: { readonly alerts: Alerts; readonly channelReads: ChannelReads },
  signal: AbortSignal,
): Promise<readonly ChannelState[]> {
  const states = await channelReads.read(JUDGED_SECONDS, signal);
  for (const state of states) {
    const key = `alert_channel:${state.channel}`;
    const isBroken =
      state.last === "dead" || state.last === "unknown" || state.waiting > WAITING_MAX;
    const { sent, unknown, dead, waiting, error } = state;
    if (!isBroken) await alerts.resolve(key, signal);
    else
      await alerts.raise(
        {
          key,
          level: "warning",
          title: "A channel does not take alert notices",
          evidence: { channel: state.channel, sent, unknown, dead, waiting, error },
          runbook: "docs/operations/alert-notices.md",
        },
        signal,
      );
  }
  return states;
}
