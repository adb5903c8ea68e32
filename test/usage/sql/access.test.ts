import type { TransactionSql } from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LedgerWorld, openLedgerWorld } from "./ledger-world.ts";

let world: LedgerWorld;
beforeAll(async () => {
  world = await openLedgerWorld();
});
afterAll(() => world.close());

const ROLLBACK = new Error("rolled back on purpose");

/** Runs `work` as a role and rolls it back. */
async function as(role: string, work: (sql: TransactionSql) => Promise<void>): Promise<void> {
  const attempt = world.sql.begin(async (sql) => {
    await sql.unsafe(`set local role ${role}`);
    await work(sql);
    throw ROLLBACK;
  });
  await attempt.catch((error: unknown) => {
    if (error !== ROLLBACK) throw error;
  });
}

const tables = async (): Promise<string[]> => {
  const rows = await world.sql`
    select relname from pg_class where relnamespace = 'worker'::regnamespace and relkind in ('r', 'p')`;
  return rows.map((row) => String(row["relname"]));
};

const functions = async (): Promise<string[]> => {
  const rows = await world.sql`
    select oid::regprocedure::text as name from pg_proc
     where pronamespace in ('worker'::regnamespace, 'public'::regnamespace)`;
  return rows.map((row) => String(row["name"]));
};

const DENIED = { code: "42501" };

describe.each(["anon", "authenticated"])("the role %s", (role) => {
  test("cannot enter the schema", async () => {
    await expect(
      as(role, async (sql) => void (await sql`select worker.ping()`)),
    ).rejects.toMatchObject(DENIED);
  });

  test("may execute no function, even where somebody opened the schema", async () => {
    for (const name of await functions()) {
      const [row] =
        await world.sql`select has_function_privilege(${role}, ${name}, 'execute') as may`;
      expect(row, name).toEqual({ may: false });
    }
  });

  test("sees and changes no row, even where somebody granted everything", async () => {
    const shard = await world.openShard();
    shard.record();
    await shard.apply();
    await world.sql
      .begin(async (sql) => {
        await sql.unsafe(`grant usage on schema worker to ${role}`);
        await sql.unsafe(`grant all on all tables in schema worker to ${role}`);
        await sql.unsafe(`set local role ${role}`);
        for (const table of await tables()) {
          expect(await sql.unsafe(`select * from worker.${table}`), table).toHaveLength(0);
          expect((await sql.unsafe(`delete from worker.${table}`)).count, table).toBe(0);
        }
        await expect(
          sql.savepoint(
            (inner) => inner`insert into worker.usage_periods (period) values (202611)`,
          ),
        ).rejects.toMatchObject(DENIED);
        throw ROLLBACK;
      })
      .catch((error: unknown) => {
        if (error !== ROLLBACK) throw error;
      });
  });
});

describe("the service role", () => {
  test("may execute every function", async () => {
    for (const name of await functions()) {
      const [row] =
        await world.sql`select has_function_privilege('service_role', ${name}, 'execute') as may`;
      expect(row, name).toEqual({ may: true });
    }
  });

  test("can do the whole work of a shard", async () => {
    const shard = await world.openShard();
    shard.record({ request: "r1" });
    shard.record({ request: "r1", tokens: 3n });
    shard.bad({ raw: "x", error: "format" });
    shard.marker({ oi: "old", ln: 5, lc: "5", cn: 0, cc: "0" });
    shard.record({ replayOf: "old", day: 30_000 });
    await as("service_role", async (sql) => {
      const applied = await world.call("usage_apply_batch", shard.batch(0), sql as never);
      expect(applied).toMatchObject({ status: "applied", applied: 2, conflicting: 1, bad: 1 });
      const days = { p_from: "2052-02-20", p_to: "2052-02-20" };
      expect(await world.call<number>("usage_ensure_days", days, sql as never)).toBe(1);
      const fork = {
        p_shard: shard.shard,
        p_old_inc: shard.inc(),
        p_new_inc: "n",
        p_cause: "redis_flushed",
      };
      expect(await world.call("usage_fork_shard", fork, sql as never)).toMatchObject({
        status: "ok",
      });
    });
  });

  test.each([
    ["change the ledger", "update worker.usage_ledger set tokens = 0"],
    ["empty the ledger", "delete from worker.usage_ledger"],
    ["change an event", "update worker.usage_events set tokens = 0"],
    ["empty the events", "delete from worker.usage_events"],
    ["remove a total", "delete from worker.usage_totals"],
    ["rewrite the audit log", "update worker.audit_log set actor = 'eve'"],
    ["empty the audit log", "delete from worker.audit_log"],
    ["make a table", "create table worker.mine (id int)"],
  ])("cannot %s", async (_, statement) => {
    await expect(
      as("service_role", async (sql) => void (await sql.unsafe(statement))),
    ).rejects.toMatchObject(DENIED);
  });
});

describe("every object of the schema", () => {
  test("that is a table has row level security and no policy", async () => {
    const open = await world.sql`
      select relname from pg_class
       where relnamespace = 'worker'::regnamespace and relkind in ('r', 'p') and not relrowsecurity`;
    expect(open).toHaveLength(0);
    expect(await world.sql`select 1 from pg_policy`).toHaveLength(0);
  });

  test("that is a function names its search path, and only those that make and drop days run as their owner", async () => {
    const loose = await world.sql`
      select proname from pg_proc
       where pronamespace = 'worker'::regnamespace
         and not coalesce('search_path=""' = any (proconfig), false)`;
    expect(loose).toHaveLength(0);
    const definers = await world.sql`
      select proname from pg_proc where pronamespace = 'worker'::regnamespace and prosecdef
       order by proname`;
    expect(definers).toEqual([{ proname: "usage_ensure_days" }, { proname: "usage_prune_day" }]);
  });

  test("that has an instant keeps its time zone", async () => {
    const naive = await world.sql`
      select table_name, column_name from information_schema.columns
       where table_schema = 'worker' and data_type = 'timestamp without time zone'`;
    expect(naive).toHaveLength(0);
  });

  test("that is a constraint or an index has a name somebody chose", async () => {
    const unnamed = await world.sql`
      select conname from pg_constraint
       where connamespace = 'worker'::regnamespace and contype <> 'n'
         and conname !~ '_(pkey|key|fkey|check)$'
       union all
      select indexrelid::regclass::text from pg_index x
        join pg_class c on c.oid = x.indexrelid
       where c.relnamespace = 'worker'::regnamespace and c.relname !~ '_(pkey|key|idx)$'`;
    expect(unnamed).toHaveLength(0);
  });
});
