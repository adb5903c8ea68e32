// The audit of a month against a bare `sum … group by` over the same events, on the same Postgres in the same run.
//   npm exec -- node test/bench/audit.ts [--tenants 200000] [--uses 1]     bar: ≥ 0.10 of the bare rate
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import postgres from "postgres";
import { applyMigrations, readMigrations, withoutVector } from "../../local/backends/migrations.ts";
import { startPostgres } from "../../local/backends/postgres.ts";
import { firstWidth, isDone, nextWidth, rangeFrom } from "../../src/lib/usage/plan-audit.ts";
import { compare, report } from "./compare.ts";

const { values } = parseArgs({
  options: {
    tenants: { type: "string", default: "200000" },
    uses: { type: "string", default: "1" },
    rounds: { type: "string", default: "5" },
  },
});
const TENANTS = Number(values.tenants);
const USES = Number(values.uses);
const PERIOD = 202_611;

const dir = mkdtempSync(join(tmpdir(), "worker-service-bench-"));
const server = await startPostgres({ dir });
const sql = postgres(server.url, { max: 1, onnotice: () => {} });
await applyMigrations(
  { exec: (text) => sql.unsafe(text).simple() },
  withoutVector(readMigrations()),
);

/** As the reconciliation leaves it: every tenant in one shard, each of its uses in another batch. */
async function fill(): Promise<void> {
  await sql`select worker.usage_ensure_days('2026-11-01', '2026-11-30')`;
  await sql`
    insert into worker.usage_batches (shard, fork, inc, from_n, to_n, seen, applied, dup, conflicting, bad, tokens)
    select shard, 1, 'a', use * 100000, use * 100000, 0, 0, 0, 0, 0, 0
      from generate_series(0, 255) shard, generate_series(1, ${USES}::int) use`;
  await sql`
    insert into worker.usage_events (day, period, tokens, batch_id, uid, tenant, token_type, model)
    select date '2026-11-01' + (i % 30), ${PERIOD}, 1 + i % 1000, b.batch_id, gen_random_uuid(), 'tenant-' || i, 'llm', 'gpt-4o'
      from worker.usage_batches b, generate_series(1, ${TENANTS}::int) i where b.shard = i % 256`;
  await sql`
    insert into worker.usage_ledger (batch_id, tenant, period, usage_period, token_type, model, tokens, events, reason)
    select batch_id, tenant, period, period, token_type, model, sum(tokens), count(*), 'usage'
      from worker.usage_events group by 1, 2, 3, 5, 6 order by 1`;
  await sql`
    insert into worker.usage_totals (tenant, period, tokens, events, shard)
    select l.tenant, l.period, sum(l.tokens), sum(l.events), b.shard
      from worker.usage_ledger l join worker.usage_batches b using (batch_id) group by 1, 2, 5`;
  await sql`
    update worker.usage_batches b set seen = e.events, applied = e.events, tokens = e.tokens
      from (select batch_id, count(*) as events, sum(tokens) as tokens from worker.usage_events group by 1) e
     where e.batch_id = b.batch_id`;
  await sql`vacuum analyze`;
}

async function bareSum(): Promise<number> {
  await sql`
    select count(*) from (
      select tenant, sum(tokens) from worker.usage_events where period = ${PERIOD} group by tenant offset 0) sums`;
  return TENANTS * USES;
}

let longestMs = 0;
const call = async <T>(text: string, ...args: (string | number)[]): Promise<T> => {
  const [row] = await sql.unsafe(`select worker.${text} as reply`, args);
  return row?.["reply"] as T;
};

/** A whole audit, in as many calls as the service would make; returns how many differences it found. */
async function audit(): Promise<number> {
  const start = "usage_start_audit($1, $2, 'manual', 'bench')";
  const { auditId, rows } = await call<{ auditId: string; rows: number }>(
    start,
    randomUUID(),
    PERIOD,
  );
  let width = firstWidth(rows);
  for (let next = 0; !isDone(next); ) {
    const range = rangeFrom(next, width);
    const startedAt = performance.now();
    await call("usage_audit_shards($1, $2, $3)", auditId, range.from, range.to);
    const tookMs = performance.now() - startedAt;
    longestMs = Math.max(longestMs, tookMs);
    width = nextWidth(width, tookMs);
    next = range.to + 1;
  }
  const { differences } = await call<{ differences: number }>("usage_finish_audit($1)", auditId);
  return differences;
}

async function expectDifferences(expected: number): Promise<number> {
  const found = await audit();
  if (found !== expected) throw new Error(`${found} differences instead of ${expected}`);
  return TENANTS * USES;
}

/** One tenant's total is edited by hand. */
async function auditWithDifference(): Promise<number> {
  await sql`update worker.usage_totals set tokens = tokens + 1 where tenant = 'tenant-7'`;
  const units = await expectDifferences(1);
  await sql`update worker.usage_totals set tokens = tokens - 1 where tenant = 'tenant-7'`;
  return units;
}

try {
  await fill();
  const contenders = [
    { name: "bare sum … group by tenant", run: bareSum },
    { name: "audit, nothing differs", run: () => expectDifferences(0) },
    { name: "audit, one tenant differs", run: auditWithDifference },
  ];
  const measured = await compare(contenders, Number(values.rounds));
  report(`${TENANTS} tenants with ${USES} uses each, bar ≥ 0.10`, "uses", measured);
  console.log(`  longest call ${Math.round(longestMs)} ms`);
} finally {
  await sql.end();
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
}
