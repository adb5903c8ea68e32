import { type NoticeText, noticeText } from "./alert-notification-text.ts";
import type { NoticeChannel } from "./alert-notifications.ts";
import type { HookOptions } from "./alert-notifier-slack.ts";
import { postMessage } from "./alert-notifier-webhook.ts";

/** The connectors answer 200 also when what is behind them failed, and say so in words. */
const failed = (answer: string): boolean => /failed|error/i.test(answer);

export const teamsChannel = (options: HookOptions): NoticeChannel => ({
  name: "teams",
  send: (message, signal) =>
    postMessage(options, teamsPayload(noticeText(message, options)), signal, failed),
});

/** An adaptive card. Its text runs, unlike its text blocks, know no markup, so nothing needs escaping. */
export function teamsPayload({ subject, facts, runbook, level, isResolved }: NoticeText): unknown {
  const color = isResolved ? "Good" : level === "info" ? "Accent" : "Attention";
  const title = { type: "TextRun", text: subject, weight: "Bolder", size: "Medium", color };
  const content = {
    $schema: "http://adaptivecards.io/schemas/adaptive-card.json",
    type: "AdaptiveCard",
    version: "1.4",
    msteams: { width: "Full" },
    body: [
      { type: "RichTextBlock", inlines: [title] },
      ...facts.map(({ name, text }) => ({
        type: "RichTextBlock",
        spacing: "Small",
        inlines: [
          { type: "TextRun", text: `${name}: `, isSubtle: true },
          { type: "TextRun", text },
        ],
      })),
    ],
    ...(runbook?.url === undefined
      ? {}
      : { actions: [{ type: "Action.OpenUrl", title: "Runbook", url: runbook.url }] }),
  };
  const contentType = "application/vnd.microsoft.card.adaptive";
  return { type: "message", attachments: [{ contentType, contentUrl: null, content }] };
}
