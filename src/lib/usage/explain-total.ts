import type { BookedTotal } from "./usage-reads.supabase.ts";

export interface TotalFacts {
  readonly tenant: string;
  readonly period: number;
  readonly booked: BookedTotal;
  /** What the counter in Redis says; null when it has none for the period. */
  readonly counter: string | null;
  readonly now: number;
}

/**
 * Puts both sides next to each other. The counter is compared with what *happened* in the period; uses that were
 * billed in a later month because theirs was closed are part of both numbers, those of a legacy lane of the ledger's
 * alone.
 */
export function explainTotal({ tenant, period, booked, counter, now }: TotalFacts) {
  const counted = BigInt(booked.used) - BigInt(booked.legacy);
  const month = String(period % 100).padStart(2, "0");
  return {
    ...booked,
    tenant,
    period: `${Math.floor(period / 100)}-${month}`,
    recorded: counter,
    pending: counter === null ? null : String(BigInt(counter) - counted),
    asOf: new Date(now).toISOString(),
  };
}
