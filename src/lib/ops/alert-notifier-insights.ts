import type { Logger } from "../kernel/run.ts";
import type { Notice, TextOptions } from "./alert-notification-text.ts";
import type { NoticeChannel } from "./alert-notifications.ts";

/**
 * Application Insights reads our log lines; this one has the shape of a custom event: text in `properties`, numbers in
 * `measurements`. A line cannot fail.
 */
export const insightsChannel = (
  log: Logger,
  { redact }: Pick<TextOptions, "redact">,
): NoticeChannel => ({
  name: "insights",
  send: async ({ notices }) => {
    for (const notice of notices) log.info("alert_notice", eventOf(notice, redact));
    return { kind: "sent" };
  },
});

function eventOf(notice: Notice, redact: TextOptions["redact"]) {
  const { id, reason, level, key, title, runbook, value, threshold, count, firstSeen } = notice;
  const numbers = { value, threshold, count };
  return {
    name: "AlertNotice",
    properties: {
      noticeId: id,
      reason,
      level,
      key,
      title,
      runbook,
      firstSeen,
      evidence: JSON.stringify(redact(notice.evidence)),
    },
    measurements: Object.fromEntries(
      Object.entries(numbers).flatMap(([name, text]) =>
        text === null ? [] : [[name, Number(text)]],
      ),
    ),
  };
}
