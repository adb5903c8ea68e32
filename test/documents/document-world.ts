import { randomUUID } from "node:crypto";
import type { Sql } from "postgres";
import { openDatabase, type TestDatabase } from "../support/stack.ts";
import type { Answer, Args } from "../usage/sql/ledger-world.ts";

/** Calls the functions of documents as the service role does, on real Postgres. */
export interface DocumentWorld {
  readonly database: TestDatabase;
  readonly sql: Sql;
  call(fn: string, args: Args): Promise<Answer>;
  /** A registered document that waits for a worker. */
  register(workspace?: string): Promise<{ readonly id: string; readonly workspace: string }>;
  row(id: string): Promise<Answer>;
  close(): Promise<void>;
}

export async function openDocumentWorld(): Promise<DocumentWorld> {
  const database = await openDatabase();
  const { sql } = database;
  const types = await parameterTypes(sql);
  const call = async (fn: string, args: Args): Promise<Answer> => {
    const names = Object.keys(args);
    const list = names.map((name, i) => `${name} => $${i + 1}::${types.get(`${fn}.${name}`)}`);
    const values = names.map((name) => args[name] ?? null) as string[];
    return sql.begin(async (transaction) => {
      await transaction`set local role service_role`;
      const [row] = await transaction.unsafe(`select worker.${fn}(${list}) as answer`, values);
      return row?.["answer"];
    }) as Promise<Answer>;
  };
  return {
    database,
    sql,
    call,
    register: async (workspace = randomUUID()) => {
      const answer = await call("document_register", registration(workspace));
      return { id: String(answer["id"]), workspace };
    },
    row: async (id) => {
      const [row] = await sql`select * from worker.documents where id = ${id}`;
      return row ?? {};
    },
    close: () => database.close(),
  };
}

export const registration = (workspace: string, parts: Args = {}): Args => ({
  p_id: null,
  p_workspace: workspace,
  p_name: "A document",
  p_mime: null,
  p_storage: "azure",
  p_container: "documents",
  p_path: `${workspace}/${randomUUID()}.txt`,
  p_priority: "normal",
  p_audit: null,
  ...parts,
});

/** Rows as document_put_chunks takes them. */
export const chunkRows = (count: number, from = 0, text = "Some words of chunk"): Args[] =>
  Array.from({ length: count }, (_, i) => ({
    ordinal: from + i,
    content: `${text} ${from + i}`,
    headings: ["Title"],
    sha256: `hash-${text}-${from + i}`,
    tokens: 5,
    pageFrom: 1,
    pageTo: 1,
    charFrom: (from + i) * 100,
    charTo: (from + i) * 100 + 50,
    language: "en",
    injection: { riskScore: 0, flags: [], patterns: [] },
    vector: null,
    copy: false,
  }));

async function parameterTypes(sql: Sql): Promise<Map<string, string>> {
  const rows = await sql<{ key: string; type: string }[]>`
    select p.proname || '.' || a.name as key, a.type::regtype::text as type
      from pg_proc p, unnest(p.proargnames, p.proargtypes::oid[]) as a (name, type)
     where p.pronamespace = 'worker'::regnamespace`;
  return new Map(rows.map(({ key, type }) => [key, type]));
}
