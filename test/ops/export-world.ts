import { createHash } from "node:crypto";
import { gunzipSync } from "node:zlib";
import type { Sql } from "postgres";
import { exportLedger, exportRows } from "../../src/lib/ops/exports.supabase.ts";
import type { ExportDeps, Manifest } from "../../src/lib/ops/exports.ts";
import { type BlobStore, createBlobStore } from "../../src/lib/runtime/blob-store.storage.ts";
import { createRpc } from "../../src/lib/runtime/rpc.supabase.ts";

/** What an exporting process needs to know; travels as an argument. */
export interface ExportSettings {
  readonly supabase: { readonly url: string; readonly key: string };
  readonly connectionString: string;
  readonly container: string;
  readonly format: "ndjson" | "csv";
  readonly now: number;
}

export function openExport(settings: ExportSettings): {
  readonly deps: ExportDeps;
  readonly store: BlobStore;
  close(): Promise<void>;
} {
  const { supabase, connectionString, container, format, now } = settings;
  const { rpc, close } = createRpc({ ...supabase, timeoutMs: 60_000 });
  const store = createBlobStore({ connectionString, container, partBytes: 512 * 1024 });
  const deps = {
    clock: { now: () => now },
    exportConfig: { format },
    exportLedger: exportLedger(rpc),
    exportRows: exportRows(rpc),
    exportStore: store,
  };
  return { deps, store, close };
}

/** Booked uses of each day of a week, as the ledger would leave them. */
export async function fillWeek(sql: Sql, week: string, perDay: number): Promise<void> {
  await sql`
    insert into worker.usage_events (day, period, tokens, batch_id, uid, tenant, token_type, model)
    select ${week}::date + d, 202611, i, 1, gen_random_uuid(), 'tenant-' || i % 100, 'llm', 'gpt, "4"'
      from generate_series(0, 6) as d, generate_series(1, ${perDay}::int) as i`;
  await sql`
    insert into worker.usage_ledger (tenant, period, usage_period, tokens, events, reason, booked_at)
    select 'tenant-' || i % 100, 202611, 202611, i, 1, 'usage', ${week}::date + i % 9 - 1 + interval '12 hours'
      from generate_series(1, ${perDay}::int) as i`;
  await sql`
    insert into worker.usage_totals (tenant, period, tokens, shard)
    select 'tenant-' || i, 202611, i, 0 from generate_series(1, 100) as i
    on conflict do nothing`;
}

export async function readBlob(store: BlobStore, path: string): Promise<Buffer> {
  const content = await store.get(path, AbortSignal.timeout(20_000));
  if (content === undefined) throw new Error(`no blob ${path}`);
  const chunks: Uint8Array[] = [];
  for await (const chunk of content.chunks) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Every line of every file of the manifest, after its size, hash and row count were compared. */
export async function readExport(store: BlobStore, week: string): Promise<Map<string, string[]>> {
  const text = (await readBlob(store, `exports/${week}/manifest.json`)).toString();
  const manifest = JSON.parse(text) as Manifest;
  const files = new Map<string, string[]>();
  for (const file of manifest.files) {
    const bytes = await readBlob(store, file.path);
    const content = gunzipSync(bytes);
    const lines = content.toString().split(/\r?\n/).slice(0, -1);
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    const rows = manifest.format === "csv" ? lines.length - 1 : lines.length;
    const facts = [bytes.length, sha256, content.length, rows].map(String);
    const claimed = [file.bytes, file.sha256, file.contentBytes, file.rows];
    if (facts.join() !== claimed.join())
      throw new Error(`${file.name}: ${facts} is not ${claimed}`);
    files.set(file.name, lines);
  }
  return files;
}
