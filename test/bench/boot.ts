import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { freePort } from "../../local/backends/ports.ts";
import { type ProcessRow, processTree } from "../support/process-tree.ts";

// How long `npm start` takes from nothing and with the data of an earlier start, and what the whole tree keeps in memory
// when it has nothing to do. `npm exec -- node test/bench/boot.ts [--rounds N] [--database pglite|postgres]`

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const READY_WITHIN_MS = 120_000;
/** After the start everything that was only needed for it has been given back. */
const SETTLE_MS = 5_000;
const BAR_MS = { fresh: 12_000, again: 5_000 };

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    database: { type: "string", default: "pglite" },
  },
});

interface Boot {
  readonly readyMs: number;
  readonly tree: readonly ProcessRow[];
}

const fresh: Boot[] = [];
const again: Boot[] = [];
for (let round = 0; round < Number(values.rounds); round++) {
  const dir = mkdtempSync(join(tmpdir(), "worker-service-boot-"));
  fresh.push(await boot(dir));
  again.push(await boot(dir));
  rmSync(dir, { recursive: true, force: true });
}
report("from nothing", fresh, BAR_MS.fresh);
report("with data of an earlier start", again, BAR_MS.again);
reportMemory(again.at(-1)?.tree ?? []);

async function boot(dir: string): Promise<Boot> {
  const port = String(await freePort());
  const args = [
    "start",
    "--",
    "--empty",
    "--dir",
    dir,
    "--database",
    values.database,
    "--port",
    port,
  ];
  const startedAt = performance.now();
  const child = spawn("npm", args, { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const limit = setTimeout(() => child.kill("SIGTERM"), READY_WITHIN_MS);
  let output = "";
  const isReady = await new Promise<boolean>((resolve) => {
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      if (output.includes("worker-service runs at")) resolve(true);
    });
    void ended.then(() => resolve(false));
  });
  clearTimeout(limit);
  if (!isReady) throw new Error(`npm start did not get ready:\n${output}`);
  const readyMs = performance.now() - startedAt;
  await sleep(SETTLE_MS);
  const tree = processTree(child.pid ?? 0);
  const service = tree.find(
    ({ command }) => /\blocal\/start\.ts\b/.test(command) && !/^sh\b/.test(command),
  );
  if (service !== undefined) process.kill(service.pid, "SIGINT"); // as Ctrl+C, which reaches it directly
  await ended;
  return { readyMs, tree };
}

function report(what: string, boots: readonly Boot[], barMs: number): void {
  const times = boots.map(({ readyMs }) => readyMs).sort((a, b) => a - b);
  const median = times[Math.floor(times.length / 2)] ?? 0;
  const all = times.map((ms) => (ms / 1000).toFixed(1)).join(", ");
  const cpu = boots.map(cpuSeconds).join(", ");
  console.log(
    `ready ${what}: median ${(median / 1000).toFixed(1)} s of [${all}] = ${(median / barMs).toFixed(2)} of the bar of ${barMs / 1000} s; CPU ${cpu} s`,
  );
}

/** Says more than the time when the machine has other work. */
function cpuSeconds({ tree }: Boot): number {
  return tree.reduce((sum, row) => sum + row.cpuSeconds, 0);
}

function reportMemory(tree: readonly ProcessRow[]): void {
  const sum = tree.reduce((total, { rssKb }) => total + rssKb, 0);
  console.log(
    `\nresident memory at idle, ${tree.length} processes, ${megabytes(sum)} MB together:`,
  );
  for (const { rssKb, command } of [...tree].sort((a, b) => b.rssKb - a.rssKb)) {
    console.log(`  ${megabytes(rssKb).padStart(6)} MB  ${shorten(command)}`);
  }
}

function megabytes(kb: number): string {
  return (kb / 1024).toFixed(1);
}

function shorten(command: string): string {
  const path = command.replaceAll(ROOT, "").replace(/^\S*\/(node|postgres)\b/, "$1");
  return path.replace(/\s+/g, " ").slice(0, 90);
}
