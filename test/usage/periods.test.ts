import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Answer,
  type LedgerShard,
  type LedgerWorld,
  openLedgerWorld,
} from "./sql/ledger-world.ts";

let world: LedgerWorld;
beforeAll(async () => {
  world = await openLedgerWorld();
});
afterAll(() => world.close());

const HOUR_MS = 3_600_000;
const GRACE_HOURS = 72;

/** Months that no other test of the file uses, every second one, so that late uses have a month of their own. */
let months = 0;
const nextPeriod = (): number => {
  months += 2;
  return (2031 + Math.floor(months / 12)) * 100 + (months % 12) + 1;
};
const startOf = (period: number): number =>
  Date.UTC(Math.floor(period / 100), (period % 100) - 1, 1);
const endOf = (period: number): number => Date.UTC(Math.floor(period / 100), period % 100, 1);
const afterGrace = (period: number): number => endOf(period) + (GRACE_HOURS + 1) * HOUR_MS;
const instant = (ms: number): string => new Date(ms).toISOString();

interface Head {
  readonly shard: number;
  readonly inc: string;
  readonly n: string;
}

/** What Redis would say if everything were booked, with what a test makes different. */
async function heads(changes: readonly Head[] = []): Promise<Head[]> {
  const rows = await world.sql`select shard, inc, n::text from worker.usage_shards order by shard`;
  const known = rows.map((row) => ({ shard: row["shard"], inc: row["inc"], n: row["n"] }) as Head);
  const changed = new Map(changes.map((head) => [head.shard, head]));
  return [{ shard: 0, inc: "", n: "0" }, ...known].map((head) => changed.get(head.shard) ?? head);
}

interface CloseArgs {
  readonly now?: number;
  readonly changes?: readonly Head[];
  readonly despite?: readonly string[];
  readonly who?: string;
}

const close = async (period: number, args: CloseArgs = {}): Promise<Answer> =>
  world.call("usage_close_period", {
    p_period: period,
    p_heads: await heads(args.changes),
    p_grace_hours: GRACE_HOURS,
    p_who: args.who ?? "job",
    p_reason: null,
    p_despite: args.despite ?? [],
    p_now: instant(args.now ?? afterGrace(period)),
  });

const seal = async (period: number, shards = 256): Promise<void> => {
  for (let i = 0; i < 300; i += 1) {
    const reply = await world.call("usage_seal_period", { p_period: period, p_shards: shards });
    if (reply["status"] !== "sealing") return;
  }
};

const read = async (period: number): Promise<Answer> => {
  const rows = await world.call<Answer[]>("usage_read_periods", { p_limit: 120 });
  return rows.find((row) => row["period"] === period) ?? {};
};

const headOf = async (shard: LedgerShard, ahead: number): Promise<Head> => {
  const { n } = await shard.state();
  return { shard: shard.shard, inc: shard.inc(), n: String(Number(n) + ahead) };
};

describe("a month", () => {
  test("that is not over is not touched", async () => {
    const period = nextPeriod();
    expect(await close(period, { now: endOf(period) - 1 })).toEqual({
      status: "running",
      until: expect.stringContaining(instant(endOf(period)).slice(0, 19)),
    });
    expect(await read(period)).toEqual({});
  });

  test("waits for its grace, counted from the first look, and takes its own uses meanwhile", async () => {
    const period = nextPeriod();
    const shard = await world.openShard();
    const soon = await close(period, { now: endOf(period) });
    expect(soon).toMatchObject({ status: "closing", heldBy: [{ reason: "grace" }] });
    shard.record({ period });
    await shard.apply();
    expect(await shard.totals()).toEqual({ [period]: "10" });
    const later = endOf(period) + GRACE_HOURS * HOUR_MS - 1;
    expect(await close(period, { now: later })).toMatchObject({ status: "closing" });
    expect(await read(period)).toMatchObject({ state: "closing", shardsNoted: 0 });
    expect(await close(period, { now: later + 1 })).toMatchObject({
      status: "closed",
      isNew: true,
    });
  });

  test("waits until every log is read past its barrier, and not for what is recorded after it", async () => {
    const period = nextPeriod();
    const shard = await world.openShard();
    const ahead = await headOf(shard, 3);
    expect(await close(period, { changes: [ahead] })).toMatchObject({
      status: "closing",
      heldBy: [{ reason: "shards_behind", shards: 1, sample: [shard.shard] }],
    });
    for (let i = 0; i < 2; i += 1) shard.record({ period });
    await shard.apply();
    const further = await headOf(shard, 50);
    expect(await close(period, { changes: [further] })).toMatchObject({ status: "closing" });
    shard.record({ period });
    await shard.apply();
    expect(await close(period, { changes: [further] })).toMatchObject({ status: "closed" });
    expect(await shard.totals()).toEqual({ [period]: "30" });
  });

  test("notes a new barrier for a log that became another one", async () => {
    const period = nextPeriod();
    const shard = await world.openShard();
    for (let i = 0; i < 3; i += 1) shard.record({ period });
    expect(await close(period, { changes: [await headOf(shard, 3)] })).toMatchObject({
      status: "closing",
    });
    await shard.fork("redis_flushed");
    const renewed = { shard: shard.shard, inc: shard.inc(), n: "3" };
    expect(await close(period, { changes: [renewed] })).toMatchObject({ status: "closing" });
    await shard.apply();
    expect(await close(period)).toMatchObject({ status: "closed" });
  });

  test("waits for a log that is gone from Redis until its end is written down", async () => {
    const period = nextPeriod();
    const shard = await world.openShard();
    shard.record({ period });
    await shard.apply();
    const gone = { shard: shard.shard, inc: "", n: "0" };
    expect(await close(period, { changes: [gone] })).toMatchObject({
      heldBy: [{ reason: "shards_behind" }],
    });
    await shard.fork("redis_flushed");
    expect(await close(period)).toMatchObject({ status: "closed" });
  });

  test("waits for a shard whose log nobody could tell it about", async () => {
    const period = nextPeriod();
    const shard = await world.openShard();
    shard.record({ period });
    await shard.apply();
    const all = await heads();
    const without = all.filter((head) => head.shard !== shard.shard);
    const args = {
      p_period: period,
      p_heads: without,
      p_grace_hours: GRACE_HOURS,
      p_who: "job",
      p_reason: null,
      p_despite: [],
      p_now: instant(afterGrace(period)),
    };
    expect(await world.call("usage_close_period", args)).toMatchObject({
      heldBy: [{ reason: "shards_behind", sample: [shard.shard] }],
    });
  });
});

describe("what is open", () => {
  test("in quarantine holds its month until somebody decides, and no other", async () => {
    const [period, other] = [nextPeriod(), nextPeriod()];
    const shard = await world.openShard();
    shard.bad({ raw: `q-${period}`, error: "occurred_too_old", tokens: "5", tenant: "x", period });
    await shard.apply();
    const [entry] =
      await world.sql`select id from worker.usage_quarantine where period = ${period}`;
    const id = String(entry?.["id"]);
    expect(await close(period)).toMatchObject({
      heldBy: [{ reason: "open_quarantine", entries: 1, ids: [id] }],
    });
    expect(await close(other)).toMatchObject({ status: "closed" });
    await world.call("usage_discard_quarantined", { p_id: id, p_who: "ana", p_reason: "test" });
    expect(await close(period)).toMatchObject({ status: "closed" });
  });

  test("without a readable month holds the months it may be of", async () => {
    const [before, period] = [nextPeriod(), nextPeriod()];
    const shard = await world.openShard();
    shard.bad({ raw: `garbage-${period}`, error: "format" });
    await shard.apply();
    await world.sql`
      update worker.usage_quarantine set detected_at = ${instant(startOf(period) + HOUR_MS)}
       where raw = ${`garbage-${period}`}`;
    expect(await close(period)).toMatchObject({ heldBy: [{ reason: "open_quarantine" }] });
    expect(await close(before)).toMatchObject({ status: "closed" });
    await world.sql`
      update worker.usage_quarantine set resolved_at = now(), resolution = 'discarded' where raw = ${`garbage-${period}`}`;
  });

  test("as a gap holds the month until it is recovered, and says how much", async () => {
    const period = nextPeriod();
    const shard = await world.openShard();
    shard.record({ period });
    await shard.apply();
    const lost = shard.record({ period, tokens: 70n });
    shard.record({ period });
    shard.lose(lost.n);
    await shard.apply();
    await world.sql`
      update worker.usage_gaps set detected_at = ${instant(startOf(period))} where shard = ${shard.shard}`;
    expect(await close(period)).toMatchObject({
      heldBy: [{ reason: "open_gap", gaps: 1, tokens: "70" }],
    });
    expect(await close(period, { despite: ["open_quarantine"] })).toMatchObject({
      status: "closing",
    });
    await world.sql`
      update worker.usage_gaps set recovered = tokens_lost, entries_recovered = entries_lost where shard = ${shard.shard}`;
    expect(await close(period)).toMatchObject({ status: "closed" });
  });

  test("may be overruled by a person, with who and why", async () => {
    const period = nextPeriod();
    const shard = await world.openShard();
    shard.record({ period });
    await shard.apply();
    await world.sql`
      insert into worker.usage_gaps (shard, inc, from_n, to_n, tokens_lost, cause, detected_at)
      values (${shard.shard}, 'elsewhere', 1, 2, 5, 'redis_rewind', ${instant(startOf(period))})`;
    const despite = ["open_gap", "grace"];
    const args = { now: endOf(period), despite, who: "ana" };
    expect(await close(period, args)).toMatchObject({ status: "closed" });
    expect(await read(period)).toMatchObject({ closedBy: "ana", despite, heldBy: [] });
  });

  test("as unread entries cannot be overruled", async () => {
    const period = nextPeriod();
    const shard = await world.openShard();
    const despite = ["open_gap", "grace", "open_quarantine"];
    const ahead = await headOf(shard, 1);
    expect(await close(period, { changes: [ahead], despite })).toMatchObject({ status: "closing" });
    await expect(close(period, { despite: ["shards_behind"] })).rejects.toMatchObject({
      code: "UL001",
    });
  });
});

describe("a closed month", () => {
  test("stays closed, however often it is closed again", async () => {
    const period = nextPeriod();
    expect(await close(period)).toMatchObject({ status: "closed", isNew: true });
    const first = await read(period);
    expect(await close(period, { who: "somebody else" })).toMatchObject({ isNew: false });
    expect(await read(period)).toEqual(first);
  });

  test("is sealed with its sums and a hash that anybody can compute again", async () => {
    const period = nextPeriod();
    const shards = await Promise.all([world.openShard(), world.openShard()]);
    for (const [i, shard] of shards.entries()) {
      for (const name of ["ñandú", "b", "a"]) {
        shard.record({ period, tenant: `${name}-${period}-${i}`, tokens: BigInt(10 + i) });
      }
      await shard.apply();
    }
    await close(period);
    expect(await read(period)).toMatchObject({ sealedAt: null, checksum: null });
    await seal(period, 1);
    const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
    const digests = shards.map(({ shard }, i) => {
      const lines = ["a", "b", "ñandú"].map((name) => `${name}-${period}-${i}\t${10 + i}\n`);
      return `${shard}\t${sha256(lines.join(""))}\n`;
    });
    expect(await read(period)).toMatchObject({
      tenants: "6",
      events: "6",
      tokens: "63",
      checksum: sha256(digests.join("")),
    });
  });

  test("never changes: what comes later is billed in the first later month that is open", async () => {
    const period = nextPeriod();
    const shard = await world.openShard();
    shard.record({ period, tokens: 3n });
    await shard.apply();
    await close(period);
    await seal(period);
    const before = await read(period);
    shard.record({ period, tokens: 5n });
    await shard.apply();
    expect(await shard.totals()).toEqual({ [period]: "3", [period + 1]: "5" });
    expect(await read(period)).toEqual(before);
    const [digest] = await world.sql`
      select checksum from worker.usage_shard_digests(${period}, ${shard.shard}, ${shard.shard})`;
    const [kept] = await world.sql`
      select checksum from worker.usage_period_shards where period = ${period} and shard = ${shard.shard}`;
    expect(digest).toEqual(kept);
  });

  test("before other closed months sends late uses past all of them, over the turn of the year", async () => {
    const shard = await world.openShard();
    for (const period of [202_910, 202_911, 202_912, 203_001]) await close(period);
    for (const period of [202_910, 202_912]) shard.record({ period });
    await shard.apply();
    expect(await shard.totals()).toEqual({ 203002: "20" });
  });
});

describe("taking back a batch", () => {
  const revert = (batch: unknown) =>
    world.call("usage_revert_batch", { p_batch: batch, p_reason: "wrong file", p_who: "ana" });

  test("books its rows with the opposite sign, once, and deletes nothing", async () => {
    const period = nextPeriod();
    const shard = await world.openShard();
    shard.record({ period, tokens: 10n });
    shard.record({ period, tokens: 5n, type: "embedding" });
    const { batch } = await shard.apply();
    shard.record({ period, tokens: 1n });
    await shard.apply();
    expect(await revert(batch)).toEqual({ status: "reverted", rows: 2, tokens: "-15" });
    expect(await revert(batch)).toMatchObject({ status: "known", who: "ana" });
    expect(await shard.totals()).toEqual({ [period]: "1" });
    const rows = await world.sql`
      select tokens, events, reason, token_type, note from worker.usage_ledger
       where tenant = ${shard.tenant} order by id`;
    expect(rows.map(({ tokens }) => Number(tokens)).sort((a, b) => a - b)).toEqual([
      -10, -5, 1, 5, 10,
    ]);
    expect(rows.at(-1)).toMatchObject({
      reason: "adjust:revert",
      events: -1,
      note: { batch, who: "ana", why: "wrong file" },
    });
    const [events] = await world.sql`
      select count(*)::int as left from worker.usage_events where tenant = ${shard.tenant}`;
    expect(events).toEqual({ left: 3 });
  });

  test("of a closed month is billed in the next one that is open", async () => {
    const period = nextPeriod();
    const shard = await world.openShard();
    shard.record({ period, tokens: 10n });
    const { batch } = await shard.apply();
    await close(period);
    await revert(batch);
    expect(await shard.totals()).toEqual({ [period]: "10", [period + 1]: "-10" });
    const total = await world.call("usage_read_total", {
      p_tenant: shard.tenant,
      p_period: period,
    });
    expect(total).toMatchObject({ tokens: "10", used: "0" });
  });

  test("at the same time as many others happens once", async () => {
    const period = nextPeriod();
    const shard = await world.openShard();
    shard.record({ period, tokens: 10n });
    const { batch } = await shard.apply();
    const answers = await Promise.all(Array.from({ length: 8 }, () => revert(batch)));
    expect(answers.filter(({ status }) => status === "reverted")).toHaveLength(1);
    expect(await shard.totals()).toEqual({ [period]: "0" });
  });

  test("that nobody knows, or without a reason, changes nothing", async () => {
    expect(await revert("999999999")).toEqual({ status: "unknown" });
    const anonymous = { p_batch: "1", p_reason: " ", p_who: "ana" };
    await expect(world.call("usage_revert_batch", anonymous)).rejects.toMatchObject({
      code: "UL001",
    });
  });
});

test("old uses that are booked afterwards have a reason of their own", async () => {
  await world.sql`
    insert into worker.usage_ledger (tenant, period, usage_period, tokens, events, reason)
    values ('old', 202501, 202501, 1, 1, 'backfill')`;
  await expect(world.sql`
    insert into worker.usage_ledger (tenant, period, usage_period, tokens, events, reason)
    values ('old', 202501, 202501, 1, 1, 'whim')`).rejects.toMatchObject({
    constraint_name: "usage_ledger_reason_check",
  });
});
