import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AuditWorld, openAuditWorld } from "./audit-world.ts";
import type { LedgerShard } from "./sql/ledger-world.ts";

let world: AuditWorld;
beforeAll(async () => {
  world = await openAuditWorld();
});
afterAll(() => world.close());

/** A batch of a tenant, with a neighbour in it. */
async function booked(
  amounts: readonly bigint[],
  parts: { period?: number; shard?: LedgerShard } = {},
): Promise<{ period: number; shard: LedgerShard; tenant: string; batch: string }> {
  const period = parts.period ?? world.nextPeriod();
  const shard = parts.shard ?? (await world.openShard());
  const { tenant } = shard;
  for (const tokens of amounts) shard.record({ period, tokens });
  shard.record({ period, tenant: `${tenant}-neighbour`, tokens: 1000n });
  const { batch } = await shard.apply();
  return { period, shard, tenant, batch: String(batch) };
}

describe("a total", () => {
  test("that was lowered is named with a negative amount", async () => {
    const { period, tenant } = await booked([10n, 20n]);
    await world.sql`update worker.usage_totals set tokens = tokens - 4 where tenant = ${tenant}`;
    const [finding] = await world.audit(period);
    expect(finding).toMatchObject({
      tenant,
      cause: "total_edited_outside_ledger",
      tokens: "-4",
      relative: "0.153846", // 4 of 26
      evidence: { total: "26", ledger: "30", used: "30", found: "30" },
    });
  });

  test("that was deleted is named with all it held", async () => {
    const { period, tenant } = await booked([10n]);
    await world.sql`delete from worker.usage_totals where tenant = ${tenant}`;
    expect(await world.differences(period)).toEqual([
      [tenant, "total_edited_outside_ledger", "-10"],
    ]);
  });

  test("of a tenant that has no ledger row is named", async () => {
    const { period, shard } = await booked([10n]);
    await world.sql`
      insert into worker.usage_totals (tenant, period, tokens, shard) values ('ghost', ${period}, 5, ${shard.shard})`;
    expect(await world.differences(period)).toEqual([
      ["ghost", "total_edited_outside_ledger", "5"],
    ]);
  });

  test("whose number of uses alone was changed is named without an amount", async () => {
    const { period, tenant } = await booked([10n]);
    await world.sql`update worker.usage_totals set events = events + 3 where tenant = ${tenant}`;
    const [finding] = await world.audit(period);
    expect(finding).toMatchObject({ tenant, tokens: "0", events: "3" });
  });

  test("beyond 2^63 is compared exactly", async () => {
    const { period, tenant } = await booked([10n]);
    const huge = "99999999999999999999999999";
    await world.sql`update worker.usage_totals set tokens = ${huge}::numeric where tenant = ${tenant}`;
    expect(await world.differences(period)).toEqual([
      [tenant, "total_edited_outside_ledger", "99999999999999999999999989"],
    ]);
  });
});

describe("the ledger", () => {
  test("that lost a row is named, not the total", async () => {
    const { period, tenant } = await booked([10n, 20n]);
    await world.sql`delete from worker.usage_ledger where tenant = ${tenant}`;
    expect(await world.differences(period)).toEqual([[tenant, "ledger_edited", "-30"]]);
  });

  test("that got a row twice, without the total, is named", async () => {
    const { period, tenant, batch } = await booked([10n]);
    await world.sql`
      insert into worker.usage_ledger (batch_id, tenant, period, usage_period, tokens, events, reason)
      values (${batch}, ${tenant}, ${period}, ${period}, 10, 1, 'usage')`;
    expect(await world.differences(period)).toEqual([[tenant, "ledger_edited", "10"]]);
  });

  test("that got a row of a batch nobody knows is named", async () => {
    const { period, tenant } = await booked([10n]);
    await world.sql`
      insert into worker.usage_ledger (batch_id, tenant, period, usage_period, tokens, events, reason)
      values (999999999, ${tenant}, ${period}, ${period}, 8, 1, 'usage')`;
    expect(await world.differences(period)).toEqual([[tenant, "ledger_edited", "8"]]);
  });

  test("whose amount moved from one tenant to another names both", async () => {
    const { period, tenant } = await booked([10n]);
    const other = `${tenant}-neighbour`;
    await world.sql`update worker.usage_ledger set tokens = tokens - 5 where tenant = ${other}`;
    await world.sql`update worker.usage_ledger set tokens = tokens + 5 where tenant = ${tenant}`;
    expect(await world.differences(period)).toEqual([
      [tenant, "ledger_edited", "5"],
      [other, "ledger_edited", "-5"],
    ]);
  });

  test("and the total that lost a booked use together leave events that are not booked", async () => {
    const { period, tenant, batch } = await booked([10n, 20n]);
    await world.sql`delete from worker.usage_ledger where tenant = ${tenant}`;
    await world.sql`update worker.usage_totals set tokens = 0, events = 0 where tenant = ${tenant}`;
    const [finding] = await world.audit(period);
    expect(finding).toMatchObject({
      tenant,
      cause: "events_not_booked",
      tokens: "-30",
      events: "-2",
      evidence: { batches: [batch] },
    });
  });

  test("holds corrections that are no findings: adjustments and batches that were taken back", async () => {
    const { period, shard, tenant, batch } = await booked([10n, 20n]);
    await world.sql.begin(async (sql) => {
      await sql`
        insert into worker.usage_ledger (tenant, period, usage_period, tokens, events, reason, lane)
        values (${tenant}, ${period}, ${period}, -7, 0, 'adjust:manual', 'adjust')`;
      await sql`update worker.usage_totals set tokens = tokens - 7 where tenant = ${tenant}`;
    });
    await booked([40n], { period, shard });
    const reverted = { p_batch: batch, p_reason: "test", p_who: "ana" };
    expect(await world.ledger.call("usage_revert_batch", reverted)).toMatchObject({
      status: "reverted",
    });
    expect(await world.audit(period)).toEqual([]);
  });
});

describe("events", () => {
  test("whose amount was changed are named", async () => {
    const { period, tenant } = await booked([10n, 20n]);
    await world.sql`update worker.usage_events set tokens = 13 where tenant = ${tenant} and tokens = 10`;
    expect(await world.differences(period)).toEqual([[tenant, "events_edited", "-3"]]);
  });

  test("that are credits and are gone are missing, not unbooked", async () => {
    const { period, tenant } = await booked([10n, -50n]);
    await world.sql`delete from worker.usage_events where tenant = ${tenant} and tokens < 0`;
    expect(await world.differences(period)).toEqual([[tenant, "events_missing", "-50"]]);
  });

  test("of no tokens that are gone are found by their number", async () => {
    const { period, tenant } = await booked([10n, 0n]);
    await world.sql`delete from worker.usage_events where tenant = ${tenant} and tokens = 0`;
    const [finding] = await world.audit(period);
    expect(finding).toMatchObject({ tenant, cause: "events_missing", tokens: "0", events: "1" });
  });

  test("whose amounts cancel each other are found by their number", async () => {
    const { period, tenant } = await booked([10n, 25n, -25n]);
    await world.sql`delete from worker.usage_events where tenant = ${tenant} and abs(tokens) = 25`;
    const [finding] = await world.audit(period);
    expect(finding).toMatchObject({ tenant, cause: "events_missing", tokens: "0", events: "2" });
  });

  test("of a whole batch are named by tenant, with the batch", async () => {
    const { period, tenant, batch } = await booked([10n, 20n]);
    await world.sql`delete from worker.usage_events where batch_id = ${batch}`;
    const findings = await world.audit(period);
    expect(findings).toMatchObject([
      { tenant, cause: "events_missing", tokens: "30", evidence: { batches: [batch] } },
      { tenant: `${tenant}-neighbour`, cause: "events_missing", tokens: "1000" },
    ]);
  });
});

describe("a part of the log that was applied twice", () => {
  test("as another batch without events is named with both batches", async () => {
    const { period, shard, tenant, batch } = await booked([10n, 20n]);
    const [again] = await world.sql`
      insert into worker.usage_batches (shard, fork, inc, from_n, to_n, seen, applied, dup, conflicting, bad, tokens)
      select shard, fork + 1000, inc, from_n, to_n, 2, 2, 0, 0, 0, 30 from worker.usage_batches where batch_id = ${batch}
      returning batch_id`;
    const second = String(again?.["batch_id"]);
    await world.sql`
      insert into worker.usage_ledger (batch_id, tenant, period, usage_period, tokens, events, reason)
      values (${second}, ${tenant}, ${period}, ${period}, 30, 2, 'usage')`;
    await world.sql`
      update worker.usage_totals set tokens = tokens + 30, events = events + 2 where tenant = ${tenant}`;
    expect(await world.audit(period)).toMatchObject([
      {
        tenant,
        cause: "double_applied",
        tokens: "30",
        events: "2",
        evidence: { batches: [second], appliedBefore: [batch] },
      },
    ]);
    expect(shard.tenant).toBe(tenant);
  });

  test("with events on another day, ledger and total raised alike, is named with its uids", async () => {
    const { period, tenant, batch } = await booked([10n, 20n]);
    await world.sql.begin(async (sql) => {
      await sql`
        insert into worker.usage_events (day, period, tokens, batch_id, uid, tenant, token_type, model)
        select day + 1, period, tokens, batch_id, uid, tenant, token_type, model
          from worker.usage_events where tenant = ${tenant}`;
      await sql`update worker.usage_ledger set tokens = 60, events = 4 where tenant = ${tenant}`;
      await sql`update worker.usage_totals set tokens = 60, events = 4 where tenant = ${tenant}`;
    });
    const findings = await world.audit(period);
    expect(findings).toMatchObject([
      {
        tenant,
        cause: "double_applied",
        tokens: "30",
        events: "2",
        evidence: { batches: [batch] },
      },
    ]);
    expect(findings[0]?.evidence["uids"]).toHaveLength(2);
  });
});

describe("a batch", () => {
  test("that did not account for all it saw is named", async () => {
    const { period, batch } = await booked([10n]);
    await world.sql`update worker.usage_batches set seen = seen + 2 where batch_id = ${batch}`;
    expect(await world.audit(period)).toMatchObject([
      { tenant: null, cause: "failed_batch", tokens: "0", evidence: { batch } },
    ]);
  });

  test("whose sum is not what it booked is named with the difference", async () => {
    const { period, batch } = await booked([10n]);
    await world.sql`update worker.usage_batches set tokens = tokens + 9 where batch_id = ${batch}`;
    expect(await world.audit(period)).toMatchObject([
      { tenant: null, cause: "failed_batch", tokens: "-9", evidence: { batch, ledger: "1010" } },
    ]);
  });

  test("of which nothing is left is named", async () => {
    const { period, batch } = await booked([10n]);
    await world.sql`update worker.usage_batches set applied_at = make_date(${Math.floor(period / 100)}, ${period % 100}, 9) where batch_id = ${batch}`;
    await world.sql`delete from worker.usage_ledger where batch_id = ${batch}`;
    await world.sql`delete from worker.usage_events where batch_id = ${batch}`;
    await world.sql`delete from worker.usage_totals where period = ${period}`;
    expect(await world.audit(period)).toMatchObject([
      { tenant: null, cause: "failed_batch", tokens: "-1010", evidence: { batch } },
    ]);
  });

  test("that holds uses of two months is right in both", async () => {
    const shard = await world.openShard();
    const [one, two] = [world.nextPeriod(), world.nextPeriod()];
    shard.record({ period: one, tokens: 3n });
    shard.record({ period: two, tokens: 5n });
    await shard.apply();
    expect(await world.audit(one)).toEqual([]);
    expect(await world.audit(two)).toEqual([]);
  });
});

describe("what only explains", () => {
  test("a late arrival is no difference, and is shown in both months", async () => {
    const [closed, open] = [world.nextPeriod(), world.nextPeriod()];
    await world.sql`insert into worker.usage_periods (period, state) values (${closed}, 'closed')`;
    const { tenant } = await booked([10n], { period: closed });
    for (const period of [closed, open]) {
      expect(await world.differences(period)).toEqual([]);
      const late = (await world.audit(period)).find((finding) => finding.tenant === tenant);
      expect(late).toMatchObject({
        cause: "late_event",
        tokens: "10",
        evidence: { happenedIn: closed, billedIn: open },
      });
    }
  });

  test("a use that claims to lie ahead is no difference, and is shown in both months", async () => {
    const [now, ahead] = [world.nextPeriod(), world.nextPeriod()];
    const shard = await world.openShard();
    shard.record({ period: ahead, bill: now, tokens: 6n });
    await shard.apply();
    for (const period of [now, ahead]) {
      expect(await world.audit(period)).toMatchObject([
        { tenant: shard.tenant, cause: "future_event", tokens: "6", isDifference: false },
      ]);
    }
  });

  test("entries in quarantine and open gaps are shown with their ids", async () => {
    const { period, shard, tenant } = await booked([10n]);
    shard.bad({ raw: randomUUID(), error: "occurred_too_old", tokens: "44", tenant, period });
    const lost = shard.record({ period, tokens: 70n });
    shard.record({ period, tokens: 1n });
    shard.lose(lost.n);
    await shard.apply();
    const start = `${Math.floor(period / 100)}-${period % 100}-09`;
    await world.sql`update worker.usage_gaps set detected_at = ${start}::timestamptz where shard = ${shard.shard}`;
    expect(await world.differences(period)).toEqual([]);
    expect(await world.audit(period)).toMatchObject([
      { tenant, cause: "quarantined", tokens: "44" },
      { tenant: null, cause: "open_gap", tokens: "70", events: "1" },
    ]);
  });
});

describe("a closed month", () => {
  test("into which something was booked is named with the tenant", async () => {
    const { period, tenant, batch } = await booked([10n]);
    await world.sql`
      insert into worker.usage_periods (period, state, closed_at) values (${period}, 'closed', now() - interval '1 hour')`;
    await world.sql`update worker.usage_ledger set booked_at = now() - interval '2 hours' where batch_id = ${batch}`;
    expect(await world.audit(period)).toEqual([]);
    await world.sql`
      insert into worker.usage_ledger (tenant, period, usage_period, tokens, events, reason)
      values (${tenant}, ${period}, ${period}, 3, 0, 'adjust:manual')`;
    await world.sql`update worker.usage_totals set tokens = tokens + 3 where tenant = ${tenant}`;
    expect(await world.differences(period)).toEqual([[tenant, "closed_period_changed", "3"]]);
  });

  test("whose seal no longer fits is named with the shard", async () => {
    const { period, shard, tenant, batch } = await booked([10n]);
    await world.sql`
      insert into worker.usage_periods (period, state, closed_at) values (${period}, 'closed', now())`;
    await world.ledger.call("usage_seal_period", { p_period: period, p_shards: 256 });
    expect(await world.audit(period)).toEqual([]);
    await world.sql`update worker.usage_ledger set tokens = tokens + 2 where tenant = ${tenant}`;
    await world.sql`update worker.usage_totals set tokens = tokens + 2 where tenant = ${tenant}`;
    await world.sql`update worker.usage_events set tokens = tokens + 2 where tenant = ${tenant}`;
    await world.sql`update worker.usage_batches set tokens = tokens + 2 where batch_id = ${batch}`;
    expect(await world.audit(period)).toMatchObject([
      {
        tenant: null,
        cause: "closed_period_changed",
        tokens: "2",
        evidence: { shard: shard.shard },
      },
    ]);
  });
});

test("two changes that no witness can tell apart are unexplained, with what is known", async () => {
  const { period, tenant, batch } = await booked([10n, 20n]);
  const other = `${tenant}-neighbour`;
  // Ledger and events of both tenants of one batch are changed, and so is the total of one.
  await world.sql`update worker.usage_ledger set tokens = tokens + 100 where tenant = ${tenant}`;
  await world.sql`update worker.usage_events set tokens = tokens + 7 where tenant = ${other}`;
  await world.sql`update worker.usage_totals set tokens = tokens + 1 where tenant = ${tenant}`;
  const findings = await world.audit(period);
  expect(findings.map(({ cause }) => cause)).toContain("unexplained");
  expect(findings.find(({ cause }) => cause === "unexplained")).toMatchObject({
    tenant,
    tokens: "100",
    evidence: { batches: [batch] },
  });
});

describe("the pieces of an audit", () => {
  test("find together what one piece finds", async () => {
    const period = world.nextPeriod();
    for (let i = 0; i < 6; i += 1) {
      const { tenant, batch } = await booked([10n, 20n], { period });
      if (i % 2 === 0) continue;
      await world.sql`update worker.usage_totals set tokens = tokens + ${i} where tenant = ${tenant}`;
      await world.sql`delete from worker.usage_events where batch_id = ${batch} and tokens = 20`;
    }
    const essence = (findings: Awaited<ReturnType<typeof world.audit>>) =>
      findings.map(({ tenant, cause, tokens }) => `${tenant} ${cause} ${tokens}`).sort();
    const whole = await world.audit(period);
    expect(whole).toHaveLength(6);
    for (const edges of [[1], [3, 30, 50], Array.from({ length: 60 }, (_, i) => i + 1)]) {
      expect(essence(await world.audit(period, edges))).toEqual(essence(whole));
    }
  });

  test("know a tenant whose batches are not kept any more", async () => {
    const period = world.nextPeriod();
    const months = [await booked([10n], { period }), await booked([20n], { period })];
    for (const { batch } of months) {
      await world.sql`delete from worker.usage_batches where batch_id = ${batch}`;
    }
    const edges = Array.from({ length: 60 }, (_, i) => i + 1);
    expect(await world.audit(period, edges)).toEqual([]);
    const tenant = months[1]?.tenant ?? "";
    await world.sql`update worker.usage_totals set tokens = tokens + 3 where tenant = ${tenant}`;
    await world.sql`delete from worker.usage_events where tenant = ${months[0]?.tenant ?? ""}`;
    const found = (await world.audit(period, edges)).map(({ cause, tokens }) => [cause, tokens]);
    expect(found.sort()).toEqual([
      ["events_missing", "10"],
      ["total_edited_outside_ledger", "3"],
    ]);
  });

  test("are taken in order and once", async () => {
    const { period, tenant } = await booked([10n]);
    await world.sql`update worker.usage_totals set tokens = tokens + 1 where tenant = ${tenant}`;
    const { call } = world.ledger;
    const started = await call("usage_start_audit", {
      p_key: "once",
      p_period: period,
      p_trigger: "manual",
      p_who: "test",
    });
    const piece = (from: number, to: number) =>
      call("usage_audit_shards", { p_audit: started["auditId"], p_from: from, p_to: to });
    const known = await call("usage_start_audit", {
      p_key: "once",
      p_period: period,
      p_trigger: "manual",
      p_who: "test",
    });
    expect(known["auditId"]).toBe(started["auditId"]);
    expect(await piece(5, 9)).toMatchObject({ status: "stale", nextShard: 0 });
    expect(await piece(0, 199)).toMatchObject({ status: "audited", nextShard: 200 });
    expect(await piece(0, 199)).toMatchObject({ status: "stale", nextShard: 200 });
    const finish = { p_audit: started["auditId"] };
    expect(await call("usage_finish_audit", finish)).toMatchObject({ status: "running" });
    expect(await piece(200, 65_535)).toMatchObject({ status: "audited", nextShard: 65_536 });
    expect(await call("usage_finish_audit", finish)).toMatchObject({
      status: "succeeded",
      differences: 1,
    });
    expect(await piece(0, 65_535)).toMatchObject({ status: "ended" });
    expect(
      await call("usage_audit_shards", { ...finish, p_audit: randomUUID(), p_from: 0, p_to: 1 }),
    ).toEqual({ status: "unknown" });
    const audit = await call("usage_read_audit", finish);
    expect(audit).toMatchObject({
      tenants: "2",
      total: "1011",
      ledger: "1010",
      used: "1010",
      found: "1010",
      causes: { total_edited_outside_ledger: { findings: 1, tokens: "1", largest: "1" } },
    });
  });

  test("of one that failed go on where it ended", async () => {
    const period = world.nextPeriod();
    const { call } = world.ledger;
    const start = () =>
      call("usage_start_audit", {
        p_key: "again",
        p_period: period,
        p_trigger: "timer",
        p_who: "t",
      });
    const { auditId } = await start();
    await call("usage_audit_shards", { p_audit: auditId, p_from: 0, p_to: 99 });
    const failed = await call("usage_finish_audit", {
      p_audit: auditId,
      p_error: "message_poisoned",
    });
    expect(failed).toMatchObject({ status: "failed" });
    expect(await start()).toMatchObject({ auditId, status: "running", nextShard: 100 });
  });
});
