import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { inspect } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { createRpc, type Rpc } from "../../src/lib/runtime/rpc.supabase.ts";
import { openDatabase, type TestDatabase } from "../support/stack.ts";

const signal = () => AbortSignal.timeout(20_000);
const failure = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    (value) => Promise.reject(new Error(`succeeded with ${JSON.stringify(value)}`)),
    (error: unknown) => error,
  );
const unavailable = { kind: "transient", code: "database_unavailable" };
const refused = { kind: "permanent", code: "database_refused" };
const expectNoSecrets = (value: unknown) =>
  expect(inspect(value, { depth: 10, showHidden: true })).not.toContain("secret-");

/** Functions that only this file knows. */
const FUNCTIONS = `
  create table worker.rpc_things (
    id text constraint rpc_things_pkey primary key,
    size int not null constraint rpc_things_size_positive check (size > 0),
    parent text constraint rpc_things_parent_fkey references worker.rpc_things (id)
  );
  create function worker.rpc_echo(p_value jsonb) returns jsonb language sql as 'select p_value';
  create function worker.rpc_nothing() returns void language sql as '';
  create function worker.rpc_exact() returns text language sql as $$ select '12345678901234567890' $$;
  create function worker.rpc_rows(p_count int) returns table (n int, label text) language sql as
    $$ select i, 'row ' || i from generate_series(1, p_count) i $$;
  create function worker.rpc_add(p_id text, p_size int, p_parent text default null) returns void language sql as
    'insert into worker.rpc_things (id, size, parent) values (p_id, p_size, p_parent)';
  create function worker.rpc_add_and_fail(p_id text) returns void language plpgsql as $$
    begin
      insert into worker.rpc_things (id, size) values (p_id, 1);
      raise exception 'rpc_always_fails';
    end $$;
  create function worker.rpc_raise(p_state text, p_message text) returns void language plpgsql as $$
    begin raise exception using errcode = p_state, message = p_message, detail = 'secret-detail', hint = 'secret-hint'; end $$;
  grant all on worker.rpc_things to service_role;
  grant execute on all functions in schema worker to service_role;
  create function worker.rpc_forbidden() returns void language sql as '';
  revoke all on function worker.rpc_forbidden from public, service_role;
`;

describe("the connection to the database", () => {
  let database: TestDatabase;
  let url: string;
  let key: string;
  let rpc: Rpc;
  let close: () => Promise<void>;

  beforeAll(async () => {
    database = await openDatabase();
    await database.sql.unsafe(FUNCTIONS);
    ({ url, key } = await database.supabase());
    ({ rpc, close } = createRpc({ url, key }));
  });
  afterAll(async () => {
    await close();
    await database.close();
  });

  test("a function takes and returns JSON as it is", async () => {
    const value = { text: "ñandú 🧪", list: [1, null, { deep: true }], number: 1.5 };
    expect(await rpc("rpc_echo", { p_value: value }, signal())).toEqual(value);
  });

  test("a function without a result resolves to null", async () => {
    expect(await rpc("rpc_nothing", {}, signal())).toBeNull();
  });

  test("an amount beyond 2^53 that comes as text is exact", async () => {
    expect(await rpc("rpc_exact", {}, signal())).toBe("12345678901234567890");
  });

  test("rows are a list of objects", async () => {
    const rows = await rpc("rpc_rows", { p_count: 2 }, signal());
    expect(rows).toEqual([
      { n: 1, label: "row 1" },
      { n: 2, label: "row 2" },
    ]);
  });

  test("a failed function leaves nothing behind", async () => {
    const error = await failure(rpc("rpc_add_and_fail", { p_id: "left-behind" }, signal()));
    expect(error).toMatchObject({
      ...refused,
      details: { fn: "rpc_add_and_fail", sqlstate: "P0001", reason: "rpc_always_fails" },
    });
    const rows = await database.sql`select from worker.rpc_things where id = 'left-behind'`;
    expect(rows).toHaveLength(0);
  });

  test.each([
    ["primary key", { p_id: "secret-id", p_size: 1 }, "23505", "rpc_things_pkey"],
    ["check", { p_id: "secret-other", p_size: -1 }, "23514", "rpc_things_size_positive"],
    [
      "foreign key",
      { p_id: "secret-x", p_size: 1, p_parent: "secret-y" },
      "23503",
      "rpc_things_parent_fkey",
    ],
  ])(
    "a broken %s constraint is refused with its name and without the row",
    async (_, args, sqlstate, constraint) => {
      await rpc("rpc_add", { p_id: "secret-id", p_size: 1 }, signal()).catch(() => {});
      const error = await failure(rpc("rpc_add", args, signal()));
      expect(error).toMatchObject({ ...refused, details: { fn: "rpc_add", sqlstate, constraint } });
      expectNoSecrets(error);
    },
  );

  test("a value that is missing is refused", async () => {
    const error = await failure(rpc("rpc_add", { p_id: "secret-id-2", p_size: null }, signal()));
    expect(error).toMatchObject({ ...refused, details: { sqlstate: "23502" } });
    expectNoSecrets(error);
  });

  test.each(["40001", "40P01", "55P03", "57014", "53300", "53400", "57P01", "57P03", "08006"])(
    "SQLSTATE %s may pass",
    async (sqlstate) => {
      const args = { p_state: sqlstate, p_message: "secret-text of Postgres" };
      const error = await failure(rpc("rpc_raise", args, signal()));
      expect(error).toMatchObject({ ...unavailable, details: { fn: "rpc_raise", sqlstate } });
      expectNoSecrets(error);
    },
  );

  test.each(["22003", "22P02", "23514", "42501", "42883", "P0001", "P0002", "UL001"])(
    "SQLSTATE %s is refused",
    async (sqlstate) => {
      const args = { p_state: sqlstate, p_message: "secret-text of ours" };
      const error = await failure(rpc("rpc_raise", args, signal()));
      expect(error).toMatchObject({ ...refused, details: { fn: "rpc_raise", sqlstate } });
      expectNoSecrets(error);
    },
  );

  test("a function that does not exist, or is not for us, is refused", async () => {
    expect(await failure(rpc("rpc_unknown", {}, signal()))).toMatchObject(refused);
    expect(await failure(rpc("rpc_forbidden", {}, signal()))).toMatchObject({
      ...refused,
      details: { sqlstate: "42501" },
    });
  });

  test("a wrong key is refused, and is not in the error", async () => {
    const stranger = createRpc({ url, key: "sb_secret_secret-wrong" });
    const error = await failure(stranger.rpc("rpc_nothing", {}, signal()));
    expect(error).toMatchObject({ ...refused, details: { status: 401 } });
    expectNoSecrets(error);
    await stranger.close();
  });

  test("fifty calls at once are each answered with their own result", async () => {
    const values = Array.from({ length: 50 }, (_, i) => i);
    const results = await Promise.all(
      values.map((p_value) => rpc("rpc_echo", { p_value }, signal())),
    );
    expect(results).toEqual(values);
  });
});

/** What a hosted gateway does and the embedded one does not. */
describe("the connection to a database behind a gateway in trouble", () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) {
      server.close();
      server.closeAllConnections();
    }
  });

  async function openGateway(listener: RequestListener, timeoutMs?: number) {
    const server = createServer(listener);
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return createRpc({ url, key: "sb_secret_0123456789", timeoutMs });
  }

  async function gateway(status: number, body: string, headers: Record<string, string> = {}) {
    let calls = 0;
    const { rpc, close } = await openGateway((_, response) => {
      calls++;
      response.writeHead(status, headers).end(body);
    });
    const error = await failure(rpc("any", {}, signal()));
    await close();
    return { error, calls };
  }

  test.each([
    [408, ""],
    [400, '{"code":"40001","message":"secret-row was changed"}'],
    [400, '{"code":"40P01","message":"deadlock detected"}'],
    [400, '{"code":"55P03","message":"could not obtain lock"}'],
    [400, '{"code":"57014","message":"canceling statement due to statement timeout"}'],
    [429, '{"message":"slow down"}'],
    [500, '{"code":"XX000","message":"secret-internal"}'],
    [502, "<html>secret-page</html>"],
    [503, '{"code":"PGRST002","message":"Could not query the database for the schema cache"}'],
    [504, '{"code":"PGRST003","message":"Timed out acquiring connection from connection pool."}'],
    [200, "<html>secret-page</html>"],
  ])("status %i with %j may pass, is asked once and not quoted", async (status, body) => {
    const { error, calls } = await gateway(status, body);
    expect(error).toMatchObject({ ...unavailable, details: { fn: "any", status } });
    expect(calls).toBe(1);
    expectNoSecrets(error);
  });

  test.each([
    [400, '{"code":"PGRST100","message":"secret-query"}'],
    [401, '{"code":"PGRST301","message":"JWT expired"}'],
    [404, '{"code":"PGRST202","message":"Could not find the function","hint":"secret-hint"}'],
    [406, '{"code":"PGRST106","message":"The schema must be one of the following: public"}'],
    [500, '{"code":"P0004","message":"secret-assertion"}'],
  ])("status %i with %j is refused and not quoted", async (status, body) => {
    const { error } = await gateway(status, body);
    expect(error).toMatchObject({ ...refused, details: { fn: "any", status } });
    expectNoSecrets(error);
  });

  test("the wait that a gateway asks for is handed on", async () => {
    const { error } = await gateway(503, "{}", { "retry-after": "7" });
    expect(error).toMatchObject({ ...unavailable, details: { retryAfterMs: 7000 } });
  });

  const silence = () => {};

  test("a call without an answer ends by the caller's deadline", async () => {
    const { rpc, close } = await openGateway(silence);
    const startedAt = performance.now();
    const work = rpc("any", {}, AbortSignal.timeout(50));
    expect(await failure(work)).toMatchObject({ kind: "transient", code: "deadline_exceeded" });
    expect(performance.now() - startedAt).toBeLessThan(1000);
    await close();
  });

  test("a call without an answer ends by the connection's own limit", async () => {
    const { rpc, close } = await openGateway(silence, 50);
    const error = await failure(rpc("any", {}, signal()));
    expect(error).toMatchObject({ ...unavailable, details: { code: "TIMEOUT" } });
    await close();
  });

  test("closing ends the calls in flight and refuses later ones", async () => {
    const { rpc, close } = await openGateway(silence);
    const inFlight = failure(rpc("any", {}, signal()));
    await close();
    const closed = { ...unavailable, details: { code: "CLOSED" } };
    expect(await inFlight).toMatchObject(closed);
    expect(await failure(rpc("any", {}, signal()))).toMatchObject(closed);
  });

  test("a database that is not there fails as transient, with the code of the socket", async () => {
    const { rpc, close } = createRpc({ url: await closedUrl(), key: "sb_secret_0123456789" });
    const startedAt = performance.now();
    const error = await failure(rpc("any", {}, signal()));
    expect(error).toMatchObject({ ...unavailable, details: { status: 0, code: "ECONNREFUSED" } });
    expect(performance.now() - startedAt).toBeLessThan(2000);
    await close();
  });
});

async function closedUrl(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `http://127.0.0.1:${port}`;
}
