import { z } from "zod";
import type { Rpc } from "../runtime/rpc.supabase.ts";
import type { Observations } from "./observe-shards.ts";
import type { Verdict } from "./plan-observations.ts";
import { parseRow } from "./usage-ledger.supabase.ts";

const Amount = z.string().regex(/^-?\d+$/);
const Observed = z.array(
  z.object({
    shard: z.int(),
    inc: z.string(),
    n: Amount,
    cum: Amount,
    count: Amount.nullable(),
    anchor: z.string().nullable(),
  }),
);

export const observations = (rpc: Rpc): Observations => ({
  read: async (signal) =>
    parseRow(Observed, await rpc("usage_read_observations", {}, signal), "observations"),

  write: async (verdicts, signal) => {
    const rows = verdicts.map(toRow);
    await rpc("usage_observe_shards", { p_observations: rows }, signal);
  },
});

function toRow({ kind, head, kept, last }: Verdict): Record<string, unknown> {
  if (kind === "confirmed" || last === undefined) return { ...head };
  const ended = { inc: last.inc, keptN: kept.n, keptCum: kept.cum, keptCount: kept.count };
  return { ...head, ended };
}
