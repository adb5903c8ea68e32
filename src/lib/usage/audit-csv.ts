import type { Finding } from "./audit-reads.supabase.ts";

const COLUMNS = ["id", "tenant", "cause", "kind", "tokens", "events", "relative", "evidence"];

/** Findings as RFC 4180. Spreadsheets run what begins like a formula: such a tenant gets an apostrophe in front. */
export const toCsv = (findings: readonly Finding[]): string =>
  [COLUMNS, ...findings.map(toRow)].map((row) => `${row.map(quoted).join(",")}\r\n`).join("");

const toRow = (finding: Finding): string[] => [
  finding.id,
  harmless(finding.tenant ?? ""),
  finding.cause,
  finding.isDifference ? "difference" : "information",
  finding.tokens,
  finding.events,
  finding.relative ?? "",
  JSON.stringify(finding.evidence),
];

const harmless = (text: string): string => (/^[=+\-@]/.test(text) ? `'${text}` : text);

const quoted = (text: string): string =>
  /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
