import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { afterAll, expect, test } from "vitest";
import { freePort } from "../../../local/backends/ports.ts";
import { type RunningPostgres, startPostgres } from "../../../local/backends/postgres.ts";

const dir = mkdtempSync(join(tmpdir(), "worker-service-postgres-"));
let server: RunningPostgres | undefined;
afterAll(async () => {
  await server?.stop();
  rmSync(dir, { recursive: true, force: true });
});

async function query(text: string): Promise<unknown[]> {
  const sql = postgres(server?.url ?? "", { max: 1, onnotice: () => {}, connect_timeout: 5 });
  try {
    return [...(await sql.unsafe(text))];
  } finally {
    await sql.end();
  }
}

test("a first start that was killed in the middle is no obstacle", async () => {
  mkdirSync(join(dir, "data.new"));
  writeFileSync(join(dir, "data.new", "PG_VERSION"), "17\n");
  server = await startPostgres({ dir });
  expect(await query("select 1 as one")).toEqual([{ one: 1 }]);
  await server.stop();
});

test("what was committed survives a kill in the middle of a transaction, and a stop", async () => {
  server = await startPostgres({ dir, durable: true });
  const { pid } = server;
  await query("create table kept (n int); insert into kept values (1)");
  const open = postgres(server.url, { max: 1 });
  const lost = open.unsafe("begin; insert into kept values (2); select pg_sleep(60)").simple();
  const broken = expect(lost).rejects.toThrow();
  await expect
    .poll(() =>
      query(
        "select 1 as x from pg_stat_activity where query like '%pg_sleep(60)' and pid <> pg_backend_pid()",
      ),
    )
    .toEqual([{ x: 1 }]);
  await server.kill();
  await broken;
  await open.end({ timeout: 0 }); // it would wait for its broken connection

  server = await startPostgres({ dir, durable: true });
  expect(server.pid).not.toBe(pid);
  expect(await query("select n from kept")).toEqual([{ n: 1 }]);
  await server.stop();
  expect(await server.ended).toBe("exit code 0");
  server = await startPostgres({ dir });
  expect(await query("select n from kept")).toEqual([{ n: 1 }]);
});

test("settings are passed on, and a port can be chosen", async () => {
  await server?.stop();
  const port = await freePort();
  server = await startPostgres({ dir, port, settings: { max_connections: "7" } });
  expect(server.url).toContain(`:${port}/`);
  expect(await query("show max_connections")).toEqual([{ max_connections: "7" }]);
});

test("a setting that Postgres refuses ends the start with what Postgres said", async () => {
  await server?.stop();
  server = undefined;
  await expect(startPostgres({ dir, settings: { nonsense: "1" } })).rejects.toThrow(
    /Postgres could not start \(exit code \d\):[\s\S]*nonsense/,
  );
});
