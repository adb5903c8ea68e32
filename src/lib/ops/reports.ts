import type { Clock } from "../kernel/clock.ts";
import { toFailure } from "../kernel/errors.ts";
import type { Run } from "../kernel/run.ts";
import type { SendOutcome } from "./alert-notifications.ts";
import type { Mailer } from "./alert-notifier-email.ts";
import type { Day } from "./exports-plan.ts";
import type { ReportData, ReportSections } from "./reports-data.ts";
import { reportPage } from "./reports-page.ts";

/** The facts of a day, each part by itself. */
export type ReportFacts = {
  readonly [Name in keyof ReportSections]: (
    day: Day,
    signal: AbortSignal,
  ) => Promise<ReportSections[Name]>;
};

export interface ReportStore {
  /** Replaces what was there. */
  store(day: Day, data: ReportData, html: string, signal: AbortSignal): Promise<void>;
  /** Whoever gets true is the only one to mail the report of the day. */
  claimMail(day: Day, signal: AbortSignal): Promise<boolean>;
  settleMail(day: Day, mail: "sent" | "failed" | "unknown", signal: AbortSignal): Promise<void>;
}

export interface ReportMail {
  readonly mailer: Mailer;
  readonly to: readonly string[];
}

export interface ReportDeps {
  readonly clock: Clock;
  readonly serviceName: string;
  readonly environment: string;
  readonly reportFacts: ReportFacts;
  readonly reportStore: ReportStore;
  /** Undefined: reports are kept and not mailed. */
  readonly reportMail: ReportMail | undefined;
}

const DAY_MS = 86_400_000;

/**
 * Makes the report of a day, in UTC, and mails it once. A part whose facts cannot be read is named as missing, and the
 * report is made anyway; making it again replaces it. Whoever mails takes the right to it first, so a crash between the
 * two leaves the report unmailed rather than mailed twice.
 */
export async function makeReport(
  deps: ReportDeps,
  run: Run,
  day: Day = dayBefore(deps.clock.now()),
): Promise<Readonly<Record<string, unknown>>> {
  const data = await collect(deps, day, run);
  const html = reportPage(data);
  await deps.reportStore.store(day, data, html, run.signal);
  const mail = await mailReport(deps, data, html, run.signal);
  return { day, missing: data.missing, mail };
}

/** Yesterday, as the slot of a run sees it. */
export const dayBefore = (now: number): Day => new Date(now - DAY_MS).toISOString().slice(0, 10);

async function collect(
  { clock, serviceName, environment, reportFacts }: ReportDeps,
  day: Day,
  run: Run,
): Promise<ReportData> {
  const missing: string[] = [];
  const part = async <T>(
    name: keyof ReportSections,
    read: (day: Day, signal: AbortSignal) => Promise<T>,
  ): Promise<T | null> => {
    try {
      return await read(day, run.signal);
    } catch (error) {
      const { code } = toFailure(error);
      run.log.warn("report_part_missing", { part: name, code, error });
      missing.push(name);
      return null;
    }
  };
  const [jobs, health, usage, work, alerts] = await Promise.all([
    part("jobs", reportFacts.jobs),
    part("health", reportFacts.health),
    part("usage", reportFacts.usage),
    part("work", reportFacts.work),
    part("alerts", reportFacts.alerts),
  ]);
  const madeAt = new Date(clock.now()).toISOString();
  const about = { version: 1, day, madeAt, serviceName, environment } as const;
  return { ...about, missing: missing.sort(), jobs, health, usage, work, alerts };
}

async function mailReport(
  { reportMail, reportStore, serviceName, environment }: ReportDeps,
  data: ReportData,
  html: string,
  signal: AbortSignal,
): Promise<"off" | "before" | "sent" | "failed" | "unknown"> {
  if (reportMail === undefined) return "off";
  if (!(await reportStore.claimMail(data.day, signal))) return "before";
  const outcome = await sendMail(reportMail, {
    subject: `${serviceName} (${environment}): ${data.day}`,
    text: `The report of ${data.day} is the HTML part of this mail, and under GET /reports/${data.day}.\n`,
    html,
    messageId: `report-${data.day}@${serviceName}.${environment}`,
  });
  const mail = outcome.kind === "refused" ? "failed" : outcome.kind;
  await reportStore.settleMail(data.day, mail, signal);
  return mail;
}

async function sendMail(
  { mailer, to }: ReportMail,
  mail: { subject: string; text: string; html: string; messageId: string },
): Promise<SendOutcome> {
  try {
    return await mailer.send({ to, ...mail }, new AbortController().signal);
  } catch {
    return { kind: "unknown", error: "unclassified" };
  }
}
