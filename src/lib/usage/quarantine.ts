import { permanent } from "../kernel/errors.ts";
import { reviseMember } from "./legacy/pending-record.ts";
import { reviseEntry, type UseEntry } from "./log-entry.ts";

/** An entry that was set aside. Amounts and ids are decimal strings. */
export interface SetAside {
  readonly id: string;
  readonly shard: number;
  readonly n: string;
  readonly tenant: string | null;
  readonly period: number | null;
  readonly tokens: string | null;
  readonly error: string;
  readonly raw: string;
  readonly detectedAt: string;
  readonly resolvedAt: string | null;
  readonly resolution: string | null;
  readonly resolvedBy: string | null;
  readonly reason: string | null;
}

export interface QuarantineFilter {
  readonly tenant?: string | undefined;
  readonly error?: string | undefined;
  /** Undefined = resolved and unresolved. */
  readonly isOpen?: boolean | undefined;
  /** Id of the last row of the page before. */
  readonly before?: string | undefined;
  readonly limit: number;
}

export interface QuarantinePage {
  readonly rows: readonly SetAside[];
  readonly next: string | null;
}

/** Who decided, and why. */
export interface Decision {
  readonly who: string;
  readonly reason: string;
}

export type Decided =
  | { readonly kind: "booked" | "duplicate"; readonly period: number }
  | { readonly kind: "discarded" }
  | { readonly kind: "resolved"; readonly resolution: string }
  | { readonly kind: "unknown" };

export interface QuarantineLedger {
  list(filter: QuarantineFilter, signal: AbortSignal): Promise<QuarantinePage>;
  find(id: string, signal: AbortSignal): Promise<SetAside | undefined>;
  /** One transaction: event, ledger, total and the decision. */
  book(id: string, use: UseEntry, decision: Decision, signal: AbortSignal): Promise<Decided>;
  discard(id: string, decision: Decision, signal: AbortSignal): Promise<Decided>;
}

/**
 * Judges an entry once more, by today's rules and whatever its age, and books it when it is well-formed now. Safe to
 * repeat: the first decision stands.
 *
 * @throws AppError `usage_quarantine_unknown`, `usage_quarantine_not_bookable`
 */
export async function retryQuarantined(
  ledger: QuarantineLedger,
  id: string,
  decision: Decision,
  signal: AbortSignal,
): Promise<Decided> {
  const entry = await ledger.find(id, signal);
  if (entry === undefined) throw permanent("usage_quarantine_unknown");
  const acceptedAt = Date.parse(entry.detectedAt);
  const revised = reviseMember(entry.raw, acceptedAt) ?? reviseEntry(entry.raw);
  if (revised.kind === "fault") {
    throw permanent("usage_quarantine_not_bookable", {
      reason: `the entry is still malformed (${revised.error}); discard it, or record the use again`,
    });
  }
  return ledger.book(id, revised.use, decision, signal);
}
