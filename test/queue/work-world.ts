import { randomUUID } from "node:crypto";
import type { Sql } from "postgres";
import { openDatabase, type TestDatabase } from "../support/stack.ts";

export type Answer = Readonly<Record<string, unknown>>;

/** The functions of the work queue, called as the service calls them: by name, as `service_role`. */
export interface WorkWorld {
  readonly database: TestDatabase;
  readonly sql: Sql;
  call<T = Answer>(fn: string, args: Readonly<Record<string, unknown>>): Promise<T>;
  /** One item of kind `thing`; answers its id. */
  enqueue(item?: Readonly<Record<string, unknown>>): Promise<string>;
  claim(id: string, options?: Readonly<Record<string, unknown>>): Promise<Answer>;
  settle(id: string, fence: unknown, outcome: string, options?: Answer): Promise<Answer>;
  row(id: string): Promise<Answer>;
  /** As time would: the lease of an item is over. */
  expire(id: string): Promise<void>;
  /** As time would: an item is due. */
  makeDue(id: string): Promise<void>;
  makeAllDue(tenant: string): Promise<void>;
  accounting(): Promise<Answer>;
  close(): Promise<void>;
}

export const RUNNING_MAX = 3;

export const newItem = (over: Answer = {}): Answer => ({
  kind: "thing",
  version: 1,
  tenant: `tenant-${randomUUID().slice(0, 8)}`,
  priority: "normal",
  payload: {},
  maxAttempts: 3,
  requestedBy: "test",
  ...over,
});

export async function openWorkWorld(): Promise<WorkWorld> {
  const database = await openDatabase();
  const { sql } = database;
  const types = await parameterTypes(sql);
  const call = async <T>(fn: string, args: Readonly<Record<string, unknown>>): Promise<T> => {
    const names = Object.keys(args);
    const list = names.map((name, i) => `${name} => $${i + 1}::${types.get(`${fn}.${name}`)}`);
    const values = names.map((name) => args[name] ?? null) as string[];
    return sql.begin(async (transaction) => {
      await transaction`set local role service_role`;
      const [row] = await transaction.unsafe(`select worker.${fn}(${list}) as answer`, values);
      return row?.["answer"] as T;
    }) as Promise<T>;
  };
  const world: WorkWorld = {
    database,
    sql,
    call,
    enqueue: async (item = {}) => {
      const args = { p_items: [newItem(item)], p_running_max: { thing: RUNNING_MAX } };
      const { items } = await call<{ items: { id: string }[] }>("work_enqueue", args);
      return String(items[0]?.id);
    },
    claim: (id, options = {}) =>
      call("work_claim", {
        p_id: id,
        p_worker: randomUUID(),
        p_lease_ms: 60_000,
        p_running_max: RUNNING_MAX,
        p_random: 0.5,
        ...options,
      }),
    settle: (id, fence, outcome, options = {}) =>
      call("work_settle", {
        p_id: id,
        p_fence: fence,
        p_outcome: outcome,
        p_running_max: RUNNING_MAX,
        p_code: outcome === "succeeded" ? null : "some_code",
        ...options,
      }),
    row: async (id) => {
      const [row] = await sql`select * from worker.work_items where id = ${id}`;
      return row ?? {};
    },
    expire: async (id) => {
      await sql`update worker.work_items set lease_until = now() - interval '1 s' where id = ${id}`;
    },
    makeDue: async (id) => {
      await sql`update worker.work_items set due_at = now() - interval '1 s' where id = ${id}`;
    },
    makeAllDue: async (tenant) => {
      await sql`
        update worker.work_items set due_at = now() - interval '1 s' where tenant = ${tenant} and due_at > now()`;
    },
    accounting: () => call("work_accounting", {}),
    close: () => database.close(),
  };
  return world;
}

async function parameterTypes(sql: Sql): Promise<Map<string, string>> {
  const rows = await sql<{ key: string; type: string }[]>`
    select p.proname || '.' || a.name as key, a.type::regtype::text as type
      from pg_proc p, unnest(p.proargnames, p.proargtypes::oid[]) as a (name, type)
     where p.pronamespace = 'worker'::regnamespace`;
  return new Map(rows.map(({ key, type }) => [key, type]));
}
