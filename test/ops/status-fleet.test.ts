import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { fleet } from "../../src/lib/ops/status-fleet.supabase.ts";
import { type Fleet, heartbeat } from "../../src/lib/ops/status-fleet.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { openDatabase, type TestDatabase } from "../support/stack.ts";

const MINUTE_MS = 60_000;
const signal = new AbortController().signal;
let database: TestDatabase;
let api: ReturnType<typeof createRpc>;
beforeAll(async () => {
  database = await openDatabase();
  api = createRpc(await database.supabase());
});
afterAll(async () => {
  await api.close();
  await database.close();
});
beforeEach(() => database.sql`truncate worker.instances, worker.fleet`);

/** As the service comes in, with the grants that it has. */
const seen = (id: string, uptimeMs: number) =>
  database.sql.begin(async (sql) => {
    await sql`set local role service_role`;
    await sql`select worker.instance_seen(${id}, ${uptimeMs}, 120.5)`;
  });
const pass = (minutes: number) =>
  database.sql.begin(async (sql) => {
    await sql`update worker.instances set seen_at = seen_at - ${minutes} * interval '1 minute', started_at = started_at - ${minutes} * interval '1 minute'`;
    await sql`update worker.fleet set seen_at = seen_at - ${minutes} * interval '1 minute', up_since = up_since - ${minutes} * interval '1 minute'`;
  });
const upMinutes = async (): Promise<number | undefined> => {
  const { now, upSince } = await fleet(api.rpc).read(signal);
  return upSince === null ? undefined : Math.round((now - upSince) / MINUTE_MS);
};

describe("the fleet", () => {
  test("is not up before anybody was seen, and has no instances", async () => {
    expect(await upMinutes()).toBeUndefined();
    expect(await fleet(api.rpc).read(signal)).toMatchObject({ instances: [] });
  });

  test("is up since its first instance, however they come and go", async () => {
    await seen("a", MINUTE_MS);
    await pass(4);
    await seen("b", 1000);
    await pass(4);
    await seen("c", 1000);
    expect(await upMinutes()).toBe(9);
    const { instances } = await fleet(api.rpc).read(signal);
    expect(instances.map(({ id }) => id)).toEqual(["b", "c"]);
    expect(instances[0]).toMatchObject({ memoryMb: 120.5 });
  });

  test("was down when nobody was seen and a new instance breaks the silence", async () => {
    await seen("a", MINUTE_MS);
    await pass(6);
    expect(await upMinutes()).toBeUndefined();
    await seen("b", 2 * MINUTE_MS);
    expect(await upMinutes()).toBe(2);
  });

  test("was not down when one that ran before breaks the silence: only the database was away", async () => {
    await seen("a", MINUTE_MS);
    await pass(30);
    await seen("a", 31 * MINUTE_MS);
    expect(await upMinutes()).toBe(31);
  });

  test("forgets instances after a day", async () => {
    await seen("old", 0);
    await pass(25 * 60);
    await seen("new", 0);
    const rows = await database.sql`select id from worker.instances`;
    expect(rows).toMatchObject([{ id: "new" }]);
  });
});

describe("an instance", () => {
  const open = (fails = false) => {
    const time = { now: 1_000_000 };
    const beats: unknown[] = [];
    const port: Pick<Fleet, "seen"> = {
      seen: async (instance) => {
        beats.push(instance);
        if (fails) throw new Error("no database");
      },
    };
    return { time, beats, instance: heartbeat("me", { now: () => time.now }, port) };
  };

  test("says that it runs at most every 30 seconds", () => {
    const { time, beats, instance } = open();
    for (let n = 0; n < 10; n += 1) instance.beat();
    expect(beats).toEqual([
      { id: "me", uptimeMs: expect.any(Number), memoryMb: expect.any(Number) },
    ]);
    time.now += 29_999;
    instance.beat();
    expect(beats).toHaveLength(1);
    time.now += 1;
    instance.beat();
    expect(beats).toHaveLength(2);
  });

  test("goes on after a failure and after a clock that was set back", () => {
    const { time, beats, instance } = open(true);
    instance.beat();
    time.now -= 10_000;
    instance.beat();
    expect(beats).toHaveLength(2);
  });
});
