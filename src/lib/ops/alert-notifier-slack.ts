import { type NoticeText, noticeText, type TextOptions } from "./alert-notification-text.ts";
import type { NoticeChannel } from "./alert-notifications.ts";
import { type Fetch, postMessage } from "./alert-notifier-webhook.ts";

export interface HookOptions extends TextOptions {
  readonly url: string;
  readonly fetch: Fetch;
}

/** Limit of the service for one text. */
const SECTION_MAX = 2900;

export const slackChannel = (options: HookOptions): NoticeChannel => ({
  name: "slack",
  send: (message, signal) =>
    postMessage(options, slackPayload(noticeText(message, options)), signal),
});

/** Titles and subjects as plain text; where Slack reads markup, its three special characters are escaped. */
export function slackPayload({ subject, facts, runbook }: NoticeText): unknown {
  const lines = facts.map(({ name, text }) => `${escaped(name)}: ${escaped(text)}`);
  const blocks: unknown[] = [
    { type: "header", text: { type: "plain_text", text: subject, emoji: true } },
    // Markup off: a key such as a_b_c stays what it is.
    { type: "section", text: { type: "mrkdwn", verbatim: true, text: fenced(lines) } },
  ];
  if (runbook !== undefined) {
    const text = runbook.url === undefined ? escaped(runbook.text) : `<${runbook.url}|Runbook>`;
    blocks.push({ type: "context", elements: [{ type: "mrkdwn", verbatim: true, text }] });
  }
  return { text: escaped(subject), blocks };
}

/** Inside a fence nothing is markup but the end of the fence. */
function fenced(lines: readonly string[]): string {
  const text = lines.join("\n").replaceAll("`", "'");
  return `\`\`\`\n${text.slice(0, SECTION_MAX)}\n\`\`\``;
}

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
