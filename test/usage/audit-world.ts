import { randomUUID } from "node:crypto";
import type { Sql } from "postgres";
import { type LedgerShard, type LedgerWorld, openLedgerWorld } from "./sql/ledger-world.ts";

export interface Finding {
  readonly tenant: string | null;
  readonly cause: string;
  readonly tokens: string;
  readonly events: string;
  readonly relative: string | null;
  readonly evidence: Readonly<Record<string, unknown>>;
  readonly isDifference: boolean;
}

export interface AuditWorld {
  readonly ledger: LedgerWorld;
  readonly sql: Sql;
  /** A month that no other test of the file uses. */
  nextPeriod(): number;
  /** A shard whose uses are of the month unless they say otherwise. */
  openShard(): Promise<LedgerShard>;
  /** A whole audit, in as many pieces as wanted. */
  audit(period: number, edges?: readonly number[]): Promise<readonly Finding[]>;
  /** Only what differs, as [tenant, cause, tokens]. */
  differences(period: number): Promise<(readonly [string | null, string, string])[]>;
  close(): Promise<void>;
}

export async function openAuditWorld(): Promise<AuditWorld> {
  const ledger = await openLedgerWorld();
  let months = 0;
  const audit = async (period: number, edges: readonly number[] = []) => {
    const { auditId } = await ledger.call("usage_start_audit", {
      p_key: randomUUID(),
      p_period: period,
      p_trigger: "manual",
      p_who: "test",
    });
    const bounds = [0, ...edges, 65_536];
    for (const [i, from] of bounds.slice(0, -1).entries()) {
      const to = (bounds[i + 1] ?? 0) - 1;
      await ledger.call("usage_audit_shards", { p_audit: auditId, p_from: from, p_to: to });
    }
    await ledger.call("usage_finish_audit", { p_audit: auditId });
    const page = await ledger.call("usage_read_findings", { p_audit: auditId, p_limit: 10_000 });
    return page["rows"] as Finding[];
  };
  return {
    ledger,
    sql: ledger.sql,
    nextPeriod: () => {
      months += 1;
      return (2030 + Math.floor(months / 12)) * 100 + (months % 12) + 1;
    },
    openShard: () => ledger.openShard(),
    audit,
    differences: async (period) =>
      (await audit(period))
        .filter(({ isDifference }) => isDifference)
        .map(({ tenant, cause, tokens }) => [tenant, cause, tokens] as const),
    close: () => ledger.close(),
  };
}
