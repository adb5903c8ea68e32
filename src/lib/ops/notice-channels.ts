import type { Logger } from "../kernel/run.ts";
import type { TextOptions } from "./alert-notification-text.ts";
import type { NoticeChannel } from "./alert-notifications.ts";
import { emailChannel } from "./alert-notifier-email.ts";
import { insightsChannel } from "./alert-notifier-insights.ts";
import { slackChannel } from "./alert-notifier-slack.ts";
import { teamsChannel } from "./alert-notifier-teams.ts";
import type { ReportMail } from "./reports.ts";
import { createSmtpMailer } from "./smtp-mailer.ts";

export interface ChannelSettings {
  readonly slackUrl?: string;
  readonly teamsUrl?: string;
  readonly smtp?: { readonly url: string; readonly from: string };
  readonly alertMailTo: readonly string[];
  readonly reportMailTo: readonly string[];
}

/** The channels that are set up. Application Insights always is: it reads our lines. */
export function noticeChannels(
  settings: ChannelSettings,
  text: TextOptions,
  log: Logger,
): {
  readonly noticeChannels: readonly NoticeChannel[];
  readonly reportMail: ReportMail | undefined;
} {
  const { slackUrl, teamsUrl, smtp, alertMailTo, reportMailTo } = settings;
  const mailer = smtp === undefined ? undefined : createSmtpMailer(smtp);
  const hook = (url: string) => ({ ...text, url, fetch });
  return {
    noticeChannels: [
      insightsChannel(log, text),
      ...(slackUrl === undefined ? [] : [slackChannel(hook(slackUrl))]),
      ...(teamsUrl === undefined ? [] : [teamsChannel(hook(teamsUrl))]),
      ...(mailer === undefined || alertMailTo.length === 0
        ? []
        : [emailChannel(mailer, { ...text, to: alertMailTo })]),
    ],
    reportMail:
      mailer === undefined || reportMailTo.length === 0 ? undefined : { mailer, to: reportMailTo },
  };
}
