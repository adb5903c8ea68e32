import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { PGlite } from "@electric-sql/pglite";
import { vector } from "@electric-sql/pglite/vector";
import { afterAll, beforeAll, expect, test } from "vitest";
import { applyMigrations, readMigrations } from "../../local/backends/migrations.ts";
import { chunkRows, registration } from "./document-world.ts";

/** The service comes in as service_role; the embedded API does not, and would hide a missing grant on the vectors. */
let db: PGlite;
const exec = async (sql: string) => (await db.exec(sql)).at(-1)?.rows ?? [];
beforeAll(async () => {
  db = await PGlite.create({ extensions: { vector } });
  await applyMigrations({ exec: exec as never }, readMigrations());
}, 120_000);
afterAll(() => db.close());

/** A unit vector along one axis. */
const axis = (at: number): string =>
  `[${Array.from({ length: 1536 }, (_, i) => (i === at ? "1" : "0")).join(",")}]`;

async function call(fn: string, args: Record<string, unknown>): Promise<Record<string, unknown>> {
  const names = Object.keys(args);
  const list = names.map((name, i) => `${name} => $${i + 1}`).join(", ");
  const values = Object.values(args).map((value) =>
    typeof value === "object" && value !== null ? JSON.stringify(value) : value,
  );
  const { rows } = await db.query<{ answer: Record<string, unknown> }>(
    `select worker.${fn}(${list}) as answer`,
    values,
  );
  return rows[0]?.answer ?? {};
}

test("the service role stores, copies, compares and removes vectors", async () => {
  await db.exec("set role service_role");
  const workspace = randomUUID();
  const { id } = await call("document_register", registration(workspace));
  const search = (at: number) =>
    call("document_search", {
      p_workspace: workspace,
      p_question: "nothing of it",
      p_embedding: axis(at),
      p_model: "m",
      p_weight_words: 1,
      p_weight_vectors: 1,
      p_floor: 0.08,
      p_documents: null,
      p_limit: 5,
    });
  for (const [fence, isCopy] of [
    [1, false],
    [2, true],
  ] as const) {
    const name = { p_id: id, p_item: workspace, p_fence: fence };
    await call("document_claim", { ...name, p_workspace: workspace, p_lease_seconds: 60 });
    const rows = chunkRows(2).map((row, i) => ({
      ...row,
      vector: isCopy ? null : axis(i),
      copy: isCopy,
    }));
    const batch = { p_model: "m", p_rows: rows, p_done: 2, p_total: 2, p_lease_seconds: 60 };
    expect(await call("document_put_chunks", { ...name, ...batch })).toMatchObject({ inserted: 2 });
    const facts = { sha256: "s", pipelineKey: "k", type: "text" };
    await call("document_finish", { ...name, p_expect: 2, p_facts: facts });
    expect((await search(1))["rows"]).toMatchObject([{ ordinal: 1, similarity: 1 }]);
  }
  expect(await exec("select version, ordinal from worker.document_vectors order by 2")).toEqual([
    { version: 2, ordinal: 0 },
    { version: 2, ordinal: 1 },
  ]);
  await call("document_delete", { p_id: id, p_workspace: workspace, p_audit: null });
  expect(await exec("select 1 from worker.document_vectors")).toEqual([]);
  await db.exec("reset role");
});

test("a copy without a source is refused, and nothing of its batch is staged", async () => {
  const workspace = randomUUID();
  const { id } = await call("document_register", registration(workspace));
  const name = { p_id: id, p_item: workspace, p_fence: 1 };
  await call("document_claim", { ...name, p_workspace: workspace, p_lease_seconds: 60 });
  const rows = chunkRows(2).map((row) => ({ ...row, copy: true }));
  const batch = { p_model: "m", p_rows: rows, p_done: 2, p_total: 2, p_lease_seconds: 60 };
  await expect(call("document_put_chunks", { ...name, ...batch })).rejects.toMatchObject({
    code: "DO002",
  });
  expect(await exec(`select 1 from worker.document_chunks where document_id = '${id}'`)).toEqual(
    [],
  );
});

test("the migration of the vectors may run a second time, and the schema files are its text", async () => {
  const migration = readMigrations().find(({ name }) => name === "add_document_vectors");
  await exec(String(migration?.sql));
  const [settings] = await exec(
    "select proconfig from pg_proc where proname = 'document_near_vectors'",
  );
  expect(settings).toMatchObject({
    proconfig: expect.arrayContaining(["hnsw.iterative_scan=strict_order", "hnsw.ef_search=100"]),
  });
  const text = (path: string) =>
    readFileSync(new URL(`../../supabase/schemas/${path}`, import.meta.url), "utf8");
  for (const file of [
    "tables/document-vectors.sql",
    "functions/document_put_vectors.sql",
    "functions/document_near_vectors.sql",
  ]) {
    expect(migration?.sql, file).toContain(text(file));
  }
});
