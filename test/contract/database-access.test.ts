import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readSources } from "../support/source-files.ts";
import { openDatabase, type TestDatabase } from "../support/stack.ts";

/**
 * Who may do what in the schema `worker`, on a database that only the migrations made. The embedded API grants all tables
 * to the roles when it starts, and the owner may do everything: a grant that a migration forgot is seen here and on a
 * hosted project, and nowhere else. Names come from the sources, so that a new feature is covered when it is written.
 */
const STRANGERS = ["anon", "authenticated"];
const DENIED = "42501";

interface SqlFunction {
  readonly oid: string;
  readonly name: string;
  readonly args: number;
  readonly isTrigger: boolean;
  readonly isDefiner: boolean;
  readonly body: string;
}

let database: TestDatabase;
let functions: readonly SqlFunction[];
let tables: ReadonlySet<string>;
beforeAll(async () => {
  database = await openDatabase();
  functions = await database.sql<SqlFunction[]>`
    select p.oid::text, p.proname as name, p.pronargs::int as args, p.prorettype = 'trigger'::regtype as "isTrigger",
           p.prosecdef as "isDefiner", p.prosrc as body
      from pg_proc p join pg_language l on l.oid = p.prolang
     where p.pronamespace = 'worker'::regnamespace and l.lanname in ('sql', 'plpgsql')
     order by p.proname`;
  const rows = await database.sql`
    select relname as name from pg_class
     where relnamespace = 'worker'::regnamespace and relkind in ('r', 'p')`;
  tables = new Set(rows.map(({ name }) => String(name)));
});
afterAll(() => database.close());

/** What the adapters pass to `rpc`: a name, or the beginning of one. */
const CALLED = /\brpc\(\s*(?:"([a-z0-9_]+)"|`([a-z0-9_]+)\$\{)/g;
const TEXT = /"([a-z0-9]+(?:_[a-z0-9]+)+)"/g;
const adapters = readSources().filter(({ path }) => /^src\/.*\.supabase\.ts$/.test(path));
const called = adapters.flatMap(({ path, text }) =>
  [...text.matchAll(CALLED)].map(([, name, start]) => ({ path, name, start })),
);

/** Also names that reach `rpc` through a variable. */
const calledFunctions = (): readonly SqlFunction[] => {
  const texts = new Set(
    adapters.flatMap(({ text }) => [...text.matchAll(TEXT)].map(([, name]) => name)),
  );
  const starts = called.flatMap(({ start }) => (start === undefined ? [] : [start]));
  const names = new Set(called.map(({ name }) => name));
  return functions.filter(
    ({ name }) =>
      texts.has(name) || names.has(name) || starts.some((start) => name.startsWith(start)),
  );
};

const may = async (role: string, { oid }: SqlFunction): Promise<boolean> => {
  const [row] = await database.sql`
    select has_function_privilege(${role}, ${oid}::oid, 'execute') as may`;
  return row?.["may"] === true;
};

describe("functions of the schema worker", () => {
  test("are what the adapters call", () => {
    expect(called.length).toBeGreaterThan(50);
    const known = functions.map(({ name }) => name);
    const unknown = called.filter(({ name, start }) =>
      name === undefined
        ? !known.some((one) => one.startsWith(start ?? ""))
        : !known.includes(name),
    );
    expect(unknown, "create the function in a migration").toEqual([]);
  });

  test("that an adapter calls may be executed by service_role", async () => {
    const refused: string[] = [];
    for (const one of calledFunctions())
      if (!(await may("service_role", one))) refused.push(one.name);
    expect(refused, "grant execute on function … to service_role").toEqual([]);
  });

  test("may be executed by nobody else", async () => {
    const open: string[] = [];
    for (const one of functions)
      for (const role of STRANGERS) if (await may(role, one)) open.push(`${role}: ${one.name}`);
    expect(open, "revoke all on function … from public, anon, authenticated").toEqual([]);
  });

  test("do not run into a missing right when service_role calls them with nothing", async () => {
    const denied: string[] = [];
    for (const { name, args } of calledFunctions()) {
      const nothing = Array(args).fill("null").join(", ");
      const call = database.sql.begin(async (sql) => {
        await sql`set local role service_role`;
        await sql.unsafe(`select worker.${name}(${nothing})`);
        throw new Error("rolled back on purpose");
      });
      const error = await call.catch((reason: unknown) => reason as { code?: string });
      if (error.code === DENIED) denied.push(`${name}: ${(error as Error).message}`);
    }
    expect(denied, "grant what the function does to service_role").toEqual([]);
  });

  test("that run with the rights of the caller have every right that their text needs", async () => {
    const missing: string[] = [];
    let needs = 0;
    for (const { name, body } of functions.filter((one) => !one.isDefiner && !one.isTrigger)) {
      for (const need of needsOf(body)) {
        needs += 1;
        if (!(await isGranted(need))) missing.push(`${name}: ${need.right} ${need.object}`);
      }
    }
    expect(needs).toBeGreaterThan(200);
    expect(missing, "grant it to service_role").toEqual([]);
  });
});

describe("tables of the schema worker", () => {
  test("have row level security and no policy that opens them", async () => {
    const open = await database.sql`
      select relname from pg_class c
       where relnamespace = 'worker'::regnamespace and relkind in ('r', 'p')
         and (not relrowsecurity or exists (select from pg_policy where polrelid = c.oid))`;
    expect(
      open.map((row) => row["relname"]),
      "enable row level security",
    ).toEqual([]);
    expect(tables.size).toBeGreaterThan(20);
  });

  test("give no right to anybody but service_role", async () => {
    const open = await database.sql`
      select relname, grantee from pg_class c
       cross join lateral (select distinct coalesce(nullif(grantee, 0)::regrole::text, 'public') as grantee
                             from aclexplode(c.relacl)) a
       where relnamespace = 'worker'::regnamespace and relkind in ('r', 'p', 'S', 'v', 'm')
         and grantee not in ('service_role', 'postgres')`;
    expect([...open]).toEqual([]);
  });
});

interface Need {
  readonly right: "select" | "insert" | "update" | "delete" | "execute";
  readonly object: string;
}

const PATTERNS: readonly [Need["right"], RegExp][] = [
  ["insert", /\binsert into worker\.(\w+)/g],
  ["update", /\bupdate (?:only )?worker\.(\w+)/g],
  ["update", /\binsert into worker\.(\w+)(?:(?!\binsert into\b)[^;])*?\bdo update\b/g],
  ["delete", /\bdelete from (?:only )?worker\.(\w+)/g],
  ["select", /(?<!\bdelete )\b(?:from|join|using) (?:only )?worker\.(\w+)/g],
  ["execute", /\bworker\.(\w+)\s*\(/g],
];

/** Read from the text of a function, without its comments and literals. Statements put together at run time are not seen. */
function needsOf(body: string): readonly Need[] {
  const text = body
    .replace(/--[^\n]*/g, "")
    .replace(/'(?:[^']|'')*'/g, "''")
    .replace(/\s+/g, " ");
  return PATTERNS.flatMap(([right, pattern]) =>
    [...text.matchAll(pattern)]
      .map(([, object = ""]) => ({ right, object }))
      .filter(({ object }) => tables.has(object) === (right !== "execute")),
  );
}

async function isGranted({ right, object }: Need): Promise<boolean> {
  if (right === "execute") {
    const overloads = functions.filter(({ name }) => name === object);
    const answers = await Promise.all(overloads.map((one) => may("service_role", one)));
    return answers.every(Boolean);
  }
  const [row] = await database.sql`
    select has_any_column_privilege('service_role', ${`worker.${object}`}, ${right}) as any_column,
           has_table_privilege('service_role', ${`worker.${object}`}, ${right}) as whole
     where ${right} <> 'delete'
     union all
    select false, has_table_privilege('service_role', ${`worker.${object}`}, 'delete')
     where ${right} = 'delete'`;
  return row?.["any_column"] === true || row?.["whole"] === true;
}
