import type { Sql } from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  openConnection,
  type SupabaseConnection,
} from "../../../local/backends/supabase-connection.ts";
import { openDatabase, type TestDatabase } from "../../support/stack.ts";

let database: TestDatabase;
let opened: SupabaseConnection;
beforeAll(async () => {
  database = await openDatabase();
  opened = await openConnection({ kind: "postgres", url: database.url });
});
afterAll(() => database.close());

test("a connection that Postgres dropped in a transaction is neither used again nor waited for", async () => {
  const driver = opened.connection.driver as Sql;
  const lost = await driver.reserve();
  await lost.unsafe("begin");
  const [backend] = await lost.unsafe("select pg_backend_pid() as pid");
  await database.sql`select pg_terminate_backend(${backend?.["pid"]})`;
  await expect
    .poll(() => database.sql`select 1 from pg_stat_activity where pid = ${backend?.["pid"]}`)
    .toHaveLength(0);
  await expect(lost.unsafe("select 1")).rejects.toThrow();
  await expect(lost.unsafe("rollback")).rejects.toThrow();
  lost.release();

  const next = await driver.reserve();
  expect(await next.unsafe("select 1 as one")).toEqual([{ one: 1 }]);
  next.release();
  await opened.connection.close();
});
