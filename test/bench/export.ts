// The weekly export of a week with many uses, in a process of its own, against reading the same rows from a bare cursor and
// compressing them.
//   npm run bench:export [-- --rows 1000000]     bar: 1,000,000 rows in ≤ 150 MB of memory
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pipeline, Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { createGzip } from "node:zlib";
import { build } from "esbuild";
import postgres from "postgres";
import { freePort } from "../../local/backends/ports.ts";
import { startBackends } from "../../local/backends/stack.ts";
import { workerEnvironment } from "../../local/worker-environment.ts";
import type { ExportSettings } from "../ops/export-world.ts";

const { values } = parseArgs({ options: { rows: { type: "string", default: "1000000" } } });
const ROWS = Number(values.rows);
const WEEK = "2026-11-15";
const NOW = Date.parse("2026-11-22T02:00:00Z");
const PAGE_ROWS = 5000;
const MEMORY_BAR_BYTES = 150 * 1024 * 1024;
const CHILD = fileURLToPath(new URL("../ops/export-week.child.ts", import.meta.url));
/** Packages that still call `require`. */
const BANNER =
  'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);';

const dir = mkdtempSync(join(tmpdir(), "worker-service-bench-"));
chmodSync(dir, 0o755); // Postgres runs as another user when we are root
const port = await freePort();
const backends = await startBackends({
  dir,
  database: "postgres",
  ports: { postgres: port },
  queues: [],
  log: () => {},
});
const sql = postgres(`postgres://postgres@127.0.0.1:${port}/postgres`, { max: 1 });

try {
  await fill();
  const bareSeconds = await readBare();
  const { rows, rssMax, rssBefore, seconds } = await exportOnce();
  const megabytes = (bytes: number) => (bytes / 1024 / 1024).toFixed(0);
  console.log(`export: ${rows} rows in ${seconds.toFixed(1)} s, ${perSecond(rows, seconds)}`);
  console.log(`bare cursor and gzip: ${ROWS} rows in ${bareSeconds.toFixed(1)} s`);
  console.log(`ratio of rates: ${(bareSeconds / ROWS / (seconds / rows)).toFixed(2)}`);
  const isKept = rssMax <= MEMORY_BAR_BYTES ? "kept" : "MISSED";
  console.log(`memory at most: ${megabytes(rssMax)} MB, bar 150: ${isKept}`);
  console.log(
    `of that before the first row: ${megabytes(rssBefore)} MB, the process with its packages`,
  );
} finally {
  await sql.end();
  await backends.stop();
  rmSync(dir, { recursive: true, force: true });
}

/** Uses of seven days; the ledger holds a row for each tenth of them, as it sums them up. */
async function fill(): Promise<void> {
  await sql`select worker.usage_ensure_days(${WEEK}, ${WEEK}::date + 6)`;
  await sql`
    insert into worker.usage_events (day, period, tokens, batch_id, uid, tenant, token_type, model, conversation_id)
    select ${WEEK}::date + i % 7, 202611, 1 + i % 1000, i / 4000, gen_random_uuid(), 'tenant-' || i % 5000, 'llm', 'gpt-4o',
           'conversation-' || i % 100000
      from generate_series(1, ${ROWS}::int) as i`;
  await sql`
    insert into worker.usage_ledger (tenant, period, usage_period, token_type, model, tokens, events, reason, booked_at)
    select 'tenant-' || i % 5000, 202611, 202611, 'llm', 'gpt-4o', i, 10, 'usage', ${WEEK}::date + i % 7 + interval '2 hours'
      from generate_series(1, ${Math.ceil(ROWS / 10)}::int) as i`;
  await sql`vacuum analyze`;
}

async function readBare(): Promise<number> {
  const startedAt = performance.now();
  async function* lines() {
    const query = sql`select * from worker.usage_events order by day, uid`;
    for await (const page of query.cursor(PAGE_ROWS))
      yield page.map((row) => `${JSON.stringify(row)}\n`).join("");
  }
  for await (const _ of pipeline(Readable.from(lines()), createGzip(), () => {}));
  return (performance.now() - startedAt) / 1000;
}

interface Exported {
  readonly rows: number;
  readonly rssMax: number;
  readonly rssBefore: number;
  readonly seconds: number;
}

async function exportOnce(): Promise<Exported> {
  const env = workerEnvironment(backends);
  const settings: ExportSettings = {
    supabase: { url: env["SUPABASE_URL"] ?? "", key: env["SUPABASE_KEY"] ?? "" },
    connectionString: env["AzureWebJobsStorage"] ?? "",
    container: "exports",
    format: "ndjson",
    now: NOW,
  };
  const script = await bundleChild();
  const startedAt = performance.now();
  const child = spawn(process.execPath, [script, JSON.stringify(settings)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  let last = "{}";
  for await (const line of createInterface({ input: child.stdout })) last = line;
  await exited;
  const told = JSON.parse(last) as { rows: string; rssMax: number; rssBefore: number };
  return { ...told, rows: Number(told.rows), seconds: (performance.now() - startedAt) / 1000 };
}

function perSecond(rows: number, seconds: number): string {
  return `${Math.round(rows / seconds)} a second`;
}

/** As it is deployed: Node's own reading of TypeScript would cost 30 MB that no worker spends. */
async function bundleChild(): Promise<string> {
  await build({
    entryPoints: [CHILD],
    outdir: dir,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    target: "node22",
    format: "esm",
    splitting: true,
    banner: { js: BANNER },
    logLevel: "warning",
  });
  return join(dir, "export-week.child.mjs");
}
