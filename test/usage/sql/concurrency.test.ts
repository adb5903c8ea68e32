import postgres, { type Sql } from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LedgerShard, type LedgerWorld, openLedgerWorld } from "./ledger-world.ts";

const CONNECTIONS = 50;

let world: LedgerWorld;
let crowd: Sql;
beforeAll(async () => {
  world = await openLedgerWorld();
  crowd = postgres(world.database.url, { max: CONNECTIONS, onnotice: () => {} });
});
afterAll(async () => {
  await crowd.end({ timeout: 1 });
  await world.close();
});

const times = <T>(count: number, make: (i: number) => T): T[] =>
  Array.from({ length: count }, (_, i) => make(i));

const applyAll = (shards: readonly LedgerShard[]) =>
  Promise.all(shards.map((shard) => world.call("usage_apply_batch", shard.batch(0), crowd)));

describe("at the same time", () => {
  test("of many applies of the same batch exactly one is applied", async () => {
    const shard = await world.openShard();
    for (let i = 0; i < 200; i += 1) shard.record();
    const answers = await applyAll(times(20, () => shard));
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses).toEqual(["applied", ...times(19, () => "stale")]);
    expect(Object.values(await shard.totals())).toEqual(["2000"]);
  });

  test("overlapping batches of a shard end with one of them, and the rest can follow", async () => {
    const shard = await world.openShard();
    for (let i = 0; i < 30; i += 1) shard.record();
    const lengths = times(15, (i) => 2 * (i + 1));
    await Promise.all(
      lengths.map((to) => world.call("usage_apply_batch", shard.batch(0, to), crowd)),
    );
    shard.record();
    expect(await shard.apply()).toMatchObject({ status: "applied", n: "31", dup: 0 });
    expect(Object.values(await shard.totals())).toEqual(["310"]);
    expect(await shard.gaps()).toEqual([]);
  });

  test("fifty applies on different shards all succeed, without a deadlock", async () => {
    const shards = await Promise.all(times(CONNECTIONS, () => world.openShard()));
    for (const shard of shards) {
      for (let i = 0; i < 100; i += 1) shard.record({ tenant: `${shard.tenant}-${i % 40}` });
    }
    const answers = await applyAll(shards);
    expect(answers.map(({ status }) => status)).toEqual(times(CONNECTIONS, () => "applied"));
    const [sum] = await world.sql`
      select sum(tokens) from worker.usage_totals where shard = any(${shards.map(({ shard }) => shard)})`;
    expect(sum).toEqual({ sum: String(CONNECTIONS * 1000) });
  });

  test("a fork and an apply of the same lineage leave one cursor and nothing twice", async () => {
    const shards = await Promise.all(times(20, () => world.openShard()));
    await Promise.all(
      shards.map(async (shard) => {
        shard.record();
        const batch = shard.batch(0);
        const fork = { p_shard: shard.shard, p_old_inc: shard.inc(), p_cause: "redis_flushed" };
        await Promise.all([
          world.call("usage_apply_batch", batch, crowd),
          world.call("usage_fork_shard", { ...fork, p_new_inc: "next" }, crowd),
        ]);
        await world.call("usage_apply_batch", { ...shard.batch(0), p_inc: "next" }, crowd);
        expect(await shard.state()).toMatchObject({ inc: "next", n: "1" });
        expect(Object.values(await shard.totals())).toEqual(["10"]);
      }),
    );
  });

  test("of many workers one gets the lease", async () => {
    const shard = await world.openShard();
    const answers = await Promise.all(
      times(20, (i) =>
        world.call(
          "usage_lease_shard",
          { p_shard: shard.shard, p_owner: `w${i}`, p_ttl_ms: 60_000 },
          crowd,
        ),
      ),
    );
    expect(answers.filter(({ status }) => status === "ok")).toHaveLength(1);
  });

  test("many observers and first readers of a shard do not stand in each other's way", async () => {
    const observations = times(64, (shard) => ({
      shard: 40_000 + shard,
      inc: "a",
      n: 5,
      cum: "5",
    }));
    await Promise.all(
      times(10, (i) => {
        const turned = [...observations.slice(i * 6), ...observations.slice(0, i * 6)];
        return Promise.all([
          world.call("usage_observe_shards", { p_observations: turned }, crowd),
          world.call("usage_shard_state", { p_shard: 40_000 }, crowd),
        ]);
      }),
    );
    const rows = await world.sql`select 1 from worker.usage_observations where shard >= 40000`;
    expect(rows).toHaveLength(64);
  });

  test("days and batches can be made together", async () => {
    const shards = await Promise.all(times(20, () => world.openShard()));
    const day = 24_000; // 2035-09-17, in the default partition until its own is made
    for (const shard of shards)
      for (let i = 0; i < 50; i += 1) shard.record({ day: day + (i % 5) });
    const days = { p_from: "2035-09-17", p_to: "2035-09-21" };
    const [answers, made] = await Promise.all([
      applyAll(shards),
      Promise.all(times(4, () => world.call<number>("usage_ensure_days", days, crowd))),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(times(20, () => "applied"));
    expect(made.reduce((sum, count) => sum + count, 0)).toBe(5);
    const [left] = await world.sql`
      select (select count(*)::int from worker.usage_events_default where day >= '2035-09-17') as outside,
             (select count(*)::int from worker.usage_events where day >= '2035-09-17') as events`;
    expect(left).toEqual({ outside: 0, events: 1000 });
  });
});

describe("a batch that fails halfway", () => {
  test("leaves no trace, and the same call is applied later", async () => {
    const shard = await world.openShard();
    for (let i = 0; i < 10; i += 1) shard.record();
    const batch = shard.batch(0);
    await world.sql.unsafe(`create function public.refuse() returns trigger language plpgsql as
      $$ begin raise exception 'disk full' using errcode = '53100'; end $$;
      create trigger refuse before update on worker.usage_shards for each row
        when (new.shard = ${shard.shard} and new.n > old.n) execute function public.refuse()`);
    await expect(world.call("usage_apply_batch", batch)).rejects.toMatchObject({ code: "53100" });
    expect(await shard.totals()).toEqual({});
    const [trace] = await world.sql`
      select (select count(*)::int from worker.usage_events where tenant = ${shard.tenant}) as events,
             (select count(*)::int from worker.usage_batches where shard = ${shard.shard}) as batches`;
    expect(trace).toEqual({ events: 0, batches: 0 });
    await world.sql`drop trigger refuse on worker.usage_shards`;
    expect(await world.call("usage_apply_batch", batch)).toMatchObject({ applied: 10 });
  });
});
