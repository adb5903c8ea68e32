import type { AlertLevel } from "../kernel/alerts.ts";

export interface Notice {
  readonly id: string;
  readonly reason: "new" | "level" | "doubled" | "reminder" | "resolved";
  readonly level: AlertLevel;
  readonly value: string | null;
  readonly noticedAt: string;
  readonly key: string;
  readonly title: string;
  readonly runbook: string;
  readonly threshold: string | null;
  readonly count: string;
  readonly firstSeen: string;
  readonly evidence: Readonly<Record<string, unknown>>;
}

/** One message to one channel: one notice, or several that became a summary. */
export interface NoticeMessage {
  readonly id: string;
  readonly attempt: number;
  readonly notices: readonly Notice[];
}

export interface Fact {
  readonly name: string;
  readonly text: string;
}

/** A message as plain text, in the pieces that every channel arranges by its own rules and escapes by its own rules. */
export interface NoticeText {
  readonly level: AlertLevel;
  readonly isResolved: boolean;
  readonly subject: string;
  readonly facts: readonly Fact[];
  readonly runbook: { readonly text: string; readonly url: string | undefined } | undefined;
}

export interface TextOptions {
  readonly serviceName: string;
  readonly environment: string;
  /** Where the documentation of the deployed version is; without it a runbook is named, not linked. */
  readonly docsUrl: string | undefined;
  /** Removes what looks like a secret. */
  readonly redact: (value: unknown) => unknown;
}

const SUBJECT_MAX = 140;
const FACT_MAX = 600;
const FACTS_MAX = 16;
/** Notices that a summary names; the rest is a number. */
const NAMED_MAX = 12;
const ICONS: Readonly<Record<AlertLevel, string>> = { critical: "🔴", warning: "🟠", info: "🔵" };
const REASONS: Readonly<Record<Notice["reason"], string>> = {
  new: "new",
  level: "more severe",
  doubled: "twice as bad",
  reminder: "still there",
  resolved: "over",
};

/** What people read. Bounded whatever the alert holds, and without line breaks in its subject. */
export function noticeText(message: NoticeMessage, options: TextOptions): NoticeText {
  const [first] = message.notices;
  return message.notices.length === 1 && first !== undefined
    ? singleText(first, options)
    : summaryText(message.notices, options);
}

function singleText(notice: Notice, options: TextOptions): NoticeText {
  const { level, key, title, runbook, docsUrl } = { ...notice, docsUrl: options.docsUrl };
  const isResolved = notice.reason === "resolved";
  const amounts: Fact[] = [
    { name: "What", text: key },
    { name: "Notice", text: `${REASONS[notice.reason]}, ${level}` },
    { name: "Since", text: notice.firstSeen },
    { name: "Reports", text: notice.count },
    ...(notice.value === null ? [] : [{ name: "Value", text: notice.value }]),
    ...(notice.threshold === null ? [] : [{ name: "Threshold", text: notice.threshold }]),
  ];
  const evidence = isResolved ? [] : evidenceFacts(options.redact(notice.evidence));
  return {
    level,
    isResolved,
    subject: subjectOf(isResolved ? "✅" : ICONS[level], title, options),
    facts: [...amounts, ...evidence].slice(0, FACTS_MAX).map(cutFact),
    runbook: runbook === "" ? undefined : { text: runbook, url: runbookUrl(docsUrl, runbook) },
  };
}

function summaryText(notices: readonly Notice[], options: TextOptions): NoticeText {
  const level = worst(notices);
  const named = notices.slice(0, NAMED_MAX).map((notice) => ({
    name: notice.reason === "resolved" ? "over" : notice.level,
    text: `${notice.title} (${notice.key})`,
  }));
  const rest = notices.length - named.length;
  const more = rest > 0 ? [{ name: "more", text: `${rest} further notices: GET /alerts` }] : [];
  return {
    level,
    isResolved: notices.every(({ reason }) => reason === "resolved"),
    subject: subjectOf(ICONS[level], `${notices.length} notices in short time`, options),
    facts: [...named, ...more].map(cutFact),
    runbook: undefined,
  };
}

const worst = (notices: readonly Notice[]): AlertLevel => {
  const levels = notices.map(({ level }) => level);
  return levels.includes("critical") ? "critical" : levels.includes("warning") ? "warning" : "info";
};

const subjectOf = (icon: string, title: string, { serviceName, environment }: TextOptions) =>
  oneLine(`${icon} ${serviceName} (${environment}): ${title}`, SUBJECT_MAX);

/** One fact for each top-level field; what is nested is shown as JSON. */
function evidenceFacts(evidence: unknown): Fact[] {
  if (typeof evidence !== "object" || evidence === null) return [];
  return Object.entries(evidence).map(([name, value]) => ({
    name,
    text: typeof value === "object" ? JSON.stringify(value) : String(value),
  }));
}

const cutFact = ({ name, text }: Fact): Fact => ({
  name: oneLine(name, 60),
  text: oneLine(text, FACT_MAX),
});

/** Control characters and line breaks become spaces: nothing can start a header or a line of its own. */
function oneLine(text: string, max: number): string {
  const plain = text.replace(/[\p{Cc}\u2028\u2029]+/gu, " ").trim();
  return plain.length > max ? `${plain.slice(0, max - 1)}…` : plain;
}

function runbookUrl(docsUrl: string | undefined, runbook: string): string | undefined {
  const path = runbook.replace(/^docs\//, "");
  if (docsUrl === undefined || !/^[\w./#-]+$/.test(path)) return undefined;
  return `${docsUrl.replace(/\/+$/, "")}/${path}`;
}
