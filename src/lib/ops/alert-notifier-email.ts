import { type NoticeText, noticeText, type TextOptions } from "./alert-notification-text.ts";
import type { NoticeChannel, SendOutcome } from "./alert-notifications.ts";

export interface Mail {
  readonly to: readonly string[];
  readonly subject: string;
  readonly text: string;
  readonly html?: string | undefined;
  /** Names the message: the same one sent twice is recognised by mail programs. */
  readonly messageId: string;
}

/** Outgoing mail. Never throws what it can classify. */
export interface Mailer {
  send(mail: Mail, signal: AbortSignal): Promise<SendOutcome>;
}

export interface EmailOptions extends TextOptions {
  readonly to: readonly string[];
}

export const emailChannel = (mailer: Mailer, options: EmailOptions): NoticeChannel => ({
  name: "email",
  send: (message, signal) => {
    const text = noticeText(message, options);
    const messageId = `alert-${message.id}@${options.serviceName}.${options.environment}`;
    const mail = { to: options.to, subject: text.subject, text: mailText(text), messageId };
    return mailer.send(mail, signal);
  },
});

/** Plain text only: nothing to escape, nothing to load. */
export const mailText = ({ subject, facts, runbook }: NoticeText): string =>
  [
    subject,
    "",
    ...facts.map(({ name, text }) => `${name}: ${text}`),
    ...(runbook === undefined ? [] : ["", `Runbook: ${runbook.url ?? runbook.text}`]),
    "",
  ].join("\n");
