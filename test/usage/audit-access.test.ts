import { afterAll, beforeAll, expect, test } from "vitest";
import { type AuditWorld, openAuditWorld } from "./audit-world.ts";

/** The service comes in as service_role and may not do more than it needs: everything here has to be possible for it. */
let world: AuditWorld;
beforeAll(async () => {
  world = await openAuditWorld();
});
afterAll(() => world.close());

class RolledBack extends Error {}

test("the service role closes, seals, audits, drops, takes back and tells", async () => {
  const shard = await world.openShard();
  const period = 202_601;
  const old = Math.floor(Date.now() / 86_400_000) - 200;
  const dayOf = (day: number) => new Date(day * 86_400_000).toISOString().slice(0, 10);
  const before = dayOf(old + 100);
  await world.ledger.call("usage_ensure_days", { p_from: dayOf(old), p_to: dayOf(old) });
  for (const day of [old, old + 1]) shard.record({ period, day });
  const { batch } = await shard.apply();
  await world.sql`update worker.usage_totals set tokens = tokens + 9000 where tenant = ${shard.tenant}`;
  await world.sql`update worker.usage_batches set seen = seen + 1 where batch_id = ${String(batch)}`;

  const attempt = world.sql.begin(async (sql) => {
    await sql`set local role service_role`;
    const call = (fn: string, args: Record<string, unknown>) =>
      world.ledger.call(fn, args, sql as never);
    const now = new Date().toISOString();
    expect(await call("usage_due_periods", { p_now: now })).toEqual([]);
    const close = {
      p_period: period,
      p_heads: [{ shard: shard.shard, inc: shard.inc(), n: 2 }],
      p_grace_hours: 72,
      p_who: "job",
      p_reason: null,
      p_despite: [],
      p_now: now,
    };
    expect(await call("usage_close_period", close)).toMatchObject({ status: "closed" });
    const seal = { p_period: period, p_shards: 256 };
    expect(await call("usage_seal_period", seal)).toMatchObject({ status: "sealed" });
    expect(await call("usage_read_periods", {})).toMatchObject([{ period, tokens: "9020" }]);

    const key = { p_key: "k", p_period: period, p_trigger: "manual", p_who: "job" };
    const { auditId } = await call("usage_start_audit", key);
    const range = { p_audit: auditId, p_from: 0, p_to: 65_535 };
    expect(await call("usage_audit_shards", range)).toMatchObject({ differences: 2 });
    const audit = { p_audit: auditId };
    expect(await call("usage_finish_audit", audit)).toMatchObject({ status: "succeeded" });
    expect(await call("usage_read_audits", {})).toMatchObject([{ auditId }]);
    expect(await call("usage_read_audit", audit)).toMatchObject({ auditId });
    expect(await call("usage_read_findings", audit)).toMatchObject({ rows: [{}, {}] });
    await sql`select * from worker.usage_witnesses limit 1`;

    for (const day of [old, old + 1]) {
      expect(await call("usage_prunable_days", { p_before: before })).toContain(dayOf(day));
      const prune = { p_day: dayOf(day), p_before: before };
      expect(await call("usage_prune_day", prune)).toMatchObject({ status: "pruned" });
    }
    for (const what of ["observations", "lineages", "runs", "batches", "drifts", "repairs"]) {
      await call("usage_prune_rows", { p_what: what, p_before: now, p_limit: 10 });
    }
    for (const what of ["audit_findings", "audits"]) {
      await call("usage_prune_rows", { p_what: what, p_before: now, p_limit: 10 });
    }
    const revert = { p_batch: batch, p_reason: "test", p_who: "ana" };
    expect(await call("usage_revert_batch", revert)).toMatchObject({ status: "reverted" });

    const alert = {
      p_key: "test:1",
      p_level: "warning",
      p_title: "t",
      p_runbook: "r",
      p_value: "1",
      p_threshold: "1",
      p_evidence: {},
      p_now: now,
    };
    const { id } = await call("alert_raise", alert);
    const facts = {
      p_tokens_min: 1,
      p_relative_min: 0.1,
      p_relative_tokens_min: 1,
      p_planned_before: now,
      p_now: now,
    };
    expect(await call("usage_alert_facts", facts)).toMatchObject({ heldPeriods: [] });
    await call("alert_acknowledge", { p_id: id, p_who: "ana", p_reason: "r", p_now: now });
    expect(await call("alert_read", { p_state: "open" })).toMatchObject({ rows: [{ id }] });
    expect(await call("alert_resolve", { p_key: "test:1", p_now: now })).toMatchObject({ id });
    throw new RolledBack();
  });
  await expect(attempt).rejects.toThrow(RolledBack);
});
