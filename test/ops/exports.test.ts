import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { BlobServiceClient } from "@azure/storage-blob";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Run } from "../../src/lib/kernel/run.ts";
import { type ExportDeps, exportWeek } from "../../src/lib/ops/exports.ts";
import { openDatabase, openQueues, type TestDatabase } from "../support/stack.ts";
import { type ExportSettings, fillWeek, openExport, readExport } from "./export-world.ts";

const WEEK = "2026-11-15";
/** The Sunday after, at the hour of the schedule. */
const NOW = Date.parse("2026-11-22T02:00:00Z");
const PER_DAY = 6000;

let database: TestDatabase;
let base: Omit<ExportSettings, "container" | "format">;
const containers: string[] = [];
beforeAll(async () => {
  database = await openDatabase();
  const supabase = await database.supabase();
  const { connectionString } = await openQueues();
  base = { supabase, connectionString, now: NOW };
  await fillWeek(database.sql, WEEK, PER_DAY);
});
afterAll(async () => {
  const service = BlobServiceClient.fromConnectionString(base.connectionString);
  await Promise.all(containers.map((name) => service.getContainerClient(name).deleteIfExists()));
  await database.close();
});
beforeEach(() => database.sql`truncate worker.exports cascade`);

const opened: { close(): Promise<void> }[] = [];
afterEach(() => Promise.all(opened.splice(0).map((it) => it.close())));

const log = { info: () => {}, warn: () => {}, error: () => {} };
const run: Run = {
  name: "weeklyExport",
  id: "1",
  log,
  signal: new AbortController().signal,
  note: () => {},
};

function settingsOf(format: "ndjson" | "csv" = "ndjson"): ExportSettings {
  const container = `exports-${randomUUID().slice(0, 8)}`;
  containers.push(container);
  return { ...base, container, format };
}

function open(settings: ExportSettings) {
  const world = openExport(settings);
  opened.push(world);
  return world;
}

const uids = async () => {
  const rows = await database.sql`select uid::text from worker.usage_events order by uid`;
  return rows.map((row) => String(row["uid"]));
};
const uidsOf = (files: Map<string, string[]>) =>
  [...files]
    .filter(([name]) => name.startsWith("usage-events-"))
    .flatMap(([, lines]) => lines.map((line) => String(JSON.parse(line).uid)))
    .sort();

describe("the weekly export", () => {
  test("holds every use, ledger row and total of its week once, and a manifest that is right", async () => {
    const { deps, store } = open(settingsOf());
    const report = await exportWeek(deps, run);
    expect(report).toMatchObject({ week: WEEK, outcome: "finished", files: 10, resumed: 0 });
    const files = await readExport(store, WEEK);
    expect(uidsOf(files)).toEqual(await uids());
    const ledger = (files.get("usage-ledger-0001") ?? []).map((line) => JSON.parse(line));
    const [booked] = await database.sql`
      select count(*)::int as rows from worker.usage_ledger
       where booked_at >= ${WEEK}::date and booked_at < ${WEEK}::date + 7`;
    expect(ledger).toHaveLength(Number(booked?.["rows"]));
    expect(new Set(ledger.map(({ id }) => id)).size).toBe(ledger.length);
    expect(files.get("usage-totals")).toHaveLength(100);
    expect(JSON.parse(files.get("usage-events-2026-11-15")?.[0] ?? "")).toMatchObject({
      day: "2026-11-15",
      model: 'gpt, "4"',
      agent_id: null,
    });
  });

  test("does nothing when it is finished", async () => {
    const { deps } = open(settingsOf());
    await exportWeek(deps, run);
    expect(await exportWeek(deps, run)).toEqual({ week: WEEK, outcome: "finished_before" });
  });

  test("as CSV quotes what must be quoted, and has a header in every file", async () => {
    const { deps, store } = open(settingsOf("csv"));
    await exportWeek(deps, run);
    const [head, first] = (await readExport(store, WEEK)).get("usage-events-2026-11-16") ?? [];
    expect(head).toBe(
      "day,uid,tenant,period,token_type,model,agent_id,conversation_id,tokens,batch_id",
    );
    expect(first).toMatch(/^2026-11-16,[0-9a-f-]{36},tenant-\d+,202611,llm,"gpt, ""4""",,,\d+,1$/);
  });

  test("keeps the format it began with when it goes on", async () => {
    const settings = settingsOf();
    const { deps } = open(settings);
    await expect(exportWeek(failing(deps, 3), run)).rejects.toThrow("no more");
    const { deps: other, store } = open({ ...settings, format: "csv" });
    await exportWeek(other, run);
    expect(uidsOf(await readExport(store, WEEK))).toEqual(await uids());
  });
});

/** A storage that fails with the n-th file. */
function failing(deps: ExportDeps, nth: number): ExportDeps {
  let files = 0;
  const put: ExportDeps["exportStore"]["put"] = (...args) => {
    files += 1;
    return files === nth ? Promise.reject(new Error("no more")) : deps.exportStore.put(...args);
  };
  return { ...deps, exportStore: { put } };
}

describe("an export that is broken off", () => {
  test.each([1, 4, 11])(
    "at file %i goes on there, and ends as if nothing had been",
    async (nth) => {
      const { deps, store } = open(settingsOf());
      await expect(exportWeek(failing(deps, nth), run)).rejects.toThrow("no more");
      expect(await exportWeek(deps, run)).toMatchObject({ resumed: nth - 1, attempt: 2 });
      expect(uidsOf(await readExport(store, WEEK))).toEqual(await uids());
    },
  );

  test("by a page that fails leaves no half file behind", async () => {
    const { deps, store } = open(settingsOf());
    let pages = 0;
    const read: ExportDeps["exportRows"]["read"] = (...args) => {
      pages += 1;
      return pages === 9 ? Promise.reject(new Error("no page")) : deps.exportRows.read(...args);
    };
    const broken = { ...deps, exportRows: { ...deps.exportRows, read } };
    await expect(exportWeek(broken, run)).rejects.toThrow("no page");
    const { blobs } = await store.list("exports/", { limit: 100 }, run.signal);
    expect(blobs.map(({ path }) => path)).toEqual([
      "exports/2026-11-15/usage-events-2026-11-15.1.ndjson.gz",
    ]);
    await exportWeek(deps, run);
    expect(uidsOf(await readExport(store, WEEK))).toEqual(await uids());
  });

  test("by the death of its process goes on in the next one: each row once", async () => {
    const settings = settingsOf();
    for (const filesBefore of [2, 6]) await killAfter(settings, filesBefore);
    const { deps, store } = open(settings);
    const report = await exportWeek(deps, run);
    expect(report).toMatchObject({ outcome: "finished", attempt: 3 });
    expect(Number(report["resumed"])).toBeGreaterThanOrEqual(6);
    expect(uidsOf(await readExport(store, WEEK))).toEqual(await uids());
  });

  test("cannot be gone on with by the one who was thought dead", async () => {
    const { deps, store } = open(settingsOf());
    let finished: unknown;
    let files = 0;
    // The other run takes over and finishes while this one has its third file in hand.
    const put: ExportDeps["exportStore"]["put"] = async (...args) => {
      files += 1;
      if (files === 3) finished = await exportWeek(deps, run);
      return deps.exportStore.put(...args);
    };
    await expect(exportWeek({ ...deps, exportStore: { put } }, run)).rejects.toMatchObject({
      code: "export_taken_over",
    });
    expect(finished).toMatchObject({ outcome: "finished", resumed: 2 });
    expect(uidsOf(await readExport(store, WEEK))).toEqual(await uids());
  });
});

/** Exports in a process of its own and kills it when so many files are complete. */
async function killAfter(settings: ExportSettings, files: number): Promise<void> {
  const script = fileURLToPath(new URL("export-week.child.ts", import.meta.url));
  const child = spawn(process.execPath, [script, JSON.stringify(settings)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  for await (const line of createInterface({ input: child.stdout })) {
    if (Number(JSON.parse(line).files) >= files) child.kill("SIGKILL");
  }
  const [, signal] = await exited;
  expect(signal).toBe("SIGKILL");
}
