import type { Transporter } from "nodemailer";
import type { SendOutcome } from "./alert-notifications.ts";
import type { Mailer } from "./alert-notifier-email.ts";

export interface SmtpOptions {
  /** `smtp[s]://user:password@host:port`; a secret. */
  readonly url: string;
  readonly from: string;
  readonly connectTimeoutMs?: number | undefined;
  readonly socketTimeoutMs?: number | undefined;
}

/** Below the time that a message has, so that a server which does not answer is known as that. */
const CONNECT_TIMEOUT_MS = 4000;
const SOCKET_TIMEOUT_MS = 6000;

/** One connection for each mail: alerts are rare, and an idle connection would be dead when it is needed. */
export function createSmtpMailer(options: SmtpOptions): Mailer {
  const { from } = options;
  let transport: Promise<Transporter> | undefined;
  return {
    send: async ({ to, subject, text, html, messageId }) => {
      transport ??= openTransport(options);
      try {
        const mail = { from, to: [...to], subject, text, messageId: `<${messageId}>` };
        const headers = { "Auto-Submitted": "auto-generated" }; // no out-of-office answers
        await (await transport).sendMail({
          ...mail,
          headers,
          ...(html === undefined ? {} : { html }),
          disableFileAccess: true,
          disableUrlAccess: true,
        });
        return { kind: "sent" };
      } catch (error) {
        return judge(error);
      }
    },
  };
}

async function openTransport({
  url,
  connectTimeoutMs = CONNECT_TIMEOUT_MS,
  socketTimeoutMs = SOCKET_TIMEOUT_MS,
}: SmtpOptions): Promise<Transporter> {
  const { createTransport } = await import("nodemailer");
  return createTransport({
    url,
    connectionTimeout: connectTimeoutMs,
    greetingTimeout: connectTimeoutMs,
    socketTimeout: socketTimeoutMs,
  });
}

interface SmtpError {
  readonly code?: string;
  readonly syscall?: string;
  readonly responseCode?: number;
  readonly timeoutType?: string;
}

/** Before the server greeted nothing was sent. */
const NOT_GREETED = new Set(["CONNECTION_TIMEOUT", "GREETING_TIMEOUT"]);
const NOT_SENT = new Set(["EDNS", "ETLS", "EAUTH", "EENVELOPE"]);

/**
 * The answer itself does not travel: it may hold addresses. A connection that broke later than its greeting may have
 * broken behind the content, and the library does not tell the two apart.
 */
function judge(thrown: unknown): SendOutcome {
  const { code = "lost", syscall, responseCode, timeoutType } = (thrown ?? {}) as SmtpError;
  if (responseCode !== undefined) {
    const error = `smtp_${responseCode}`;
    return responseCode >= 500 ? { kind: "refused", error } : { kind: "failed", error };
  }
  const isKnown = NOT_SENT.has(code) || syscall === "connect" || NOT_GREETED.has(timeoutType ?? "");
  return { kind: isKnown ? "failed" : "unknown", error: code };
}
