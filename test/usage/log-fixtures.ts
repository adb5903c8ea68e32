import type { LogPosition, LogRow } from "../../src/lib/usage/log-entry.ts";
import type { Cursor } from "../../src/lib/usage/plan-step.ts";
import { eventIdOf } from "../../src/lib/usage/usage-keys.ts";

export const NOW = Date.UTC(2026, 10, 22, 5, 30);

export interface EntryParts {
  readonly n: number;
  readonly cum: string | number;
  readonly count?: number;
  readonly uid?: string;
  readonly tokens?: string | number;
  readonly period?: string;
  readonly occurredMs?: number;
  readonly replayOf?: string;
  readonly recordedUs?: string;
  readonly type?: string;
  readonly model?: string;
  readonly tenant?: string;
}

/** An entry as the record script writes it; every part can be replaced by something broken. */
export const entry = (parts: EntryParts): LogRow => ({
  n: String(parts.n),
  fields: [
    "d",
    [
      parts.cum,
      parts.uid ?? eventIdOf("acme", `r${parts.n}`),
      parts.tokens ?? 10,
      parts.period ?? "202611",
      parts.occurredMs ?? NOW,
      parts.replayOf ?? "",
      parts.count ?? parts.n,
      parts.recordedUs ?? `${NOW}000`,
      parts.type ?? "llm",
      parts.model ?? "gpt-4o",
      "",
      "",
      parts.tenant ?? "acme",
    ].join("|"),
  ],
});

export const start: LogPosition = { n: "0", cum: "0", count: "0", anchor: null };

export const cursorAt = (n: number, cum: number): Cursor => ({
  inc: "aaaaaaaa",
  n: String(n),
  cum: String(cum),
  count: String(n),
  anchor: `${eventIdOf("acme", `r${n}`)}@${NOW}000`,
});
