import type { Run } from "../../src/lib/kernel/run.ts";
import { exportWeek } from "../../src/lib/ops/exports.ts";
import { type ExportSettings, openExport } from "./export-world.ts";

/** Exports a week by the settings of its argument, and tells of each file. Its parent kills it at will. */
const settings = JSON.parse(process.argv[2] ?? "") as ExportSettings;
const { deps, close } = openExport(settings);
const log = { info: () => {}, warn: () => {}, error: () => {} };
const signal = new AbortController().signal;
const run: Run = { name: "export", id: "child", log, signal, note: () => {} };
await deps.exportRows.read({ kind: "totals", periods: [] }, undefined, 1, signal); // loads the client
const rssBefore = process.memoryUsage.rss();
const report = await exportWeek(deps, run, {
  progress: (fields) => process.stdout.write(`${JSON.stringify(fields)}\n`),
});
const rssMax = process.resourceUsage().maxRSS * 1024;
process.stdout.write(`${JSON.stringify({ ...report, rssMax, rssBefore })}\n`);
await close();
