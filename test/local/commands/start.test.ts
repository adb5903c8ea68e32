import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, utimesSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { freePort } from "../../../local/backends/ports.ts";
import { availableRedis } from "../../../local/backends/redis.ts";
import { DEVELOPMENT_KEY } from "../../../local/worker-environment.ts";
import { processTree, stillRunning } from "../../support/process-tree.ts";
import { type CommandRun, runLocalCommand } from "../../support/run-command.ts";

const BOOT_LIMIT_MS = 60_000;
const GONE_WITHIN_MS = 10_000;
const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const WORKER = /functions-host\/worker/;
const RUNS_AT = /worker-service runs at (http:\S+)/;

const root = mkdtempSync(join(tmpdir(), "worker-service-start-"));
const runs: CommandRun[] = [];
beforeAll(() => chmodSync(root, 0o755));
afterEach(async () => {
  for (const run of runs.splice(0)) {
    run.child.kill("SIGINT");
    await run.ended;
  }
});
afterAll(() => rmSync(root, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }));

const start = (entry: string, args: string[], env: NodeJS.ProcessEnv = {}): CommandRun => {
  const run = runLocalCommand(entry, ["--database", "postgres", ...args], env);
  runs.push(run);
  return run;
};
const urlOf = async (run: CommandRun): Promise<string> => (await run.until(RUNS_AT))[1] ?? "";
const headers = { "x-api-key": DEVELOPMENT_KEY };
const pidsOf = (pid: number) => processTree(pid).map((row) => row.pid);
const healthy = (url: string) =>
  expect.poll(async () => (await fetch(`${url}/readyz`)).status, { timeout: 20_000 }).toBe(200);
const gone = (pids: readonly number[]) =>
  expect
    .poll(() => stillRunning(pids).map(({ command }) => command), { timeout: GONE_WITHIN_MS })
    .toEqual([]);

describe("npm start", () => {
  test(
    "shows sample work, survives a crash of the worker, stops in order, and finds its data again",
    async () => {
      const args = ["--dir", join(root, "start")];
      const first = start("local/start.ts", args, { SAMPLE_DURATION_MS: "1500" });
      const url = await urlOf(first);
      expect(first.stdout()).toContain(DEVELOPMENT_KEY);

      await first.until(/Every token is booked exactly once\./);
      await first.until(
        /Three documents were stored, processed and searched:[\s\S]*What is served of them/,
      );
      expect(first.stdout().match(/: READY, chunks: [1-9]/g)).toHaveLength(3);
      expect(first.stdout()).toMatch(/repeated [1-9]\d* of them/);
      const rows = sampleRows(first.stdout());
      expect(rows).toHaveLength(5);
      expect(rows.every(({ recorded, booked }) => recorded === booked)).toBe(true);

      const worker = processTree(first.pid).find(({ command }) => WORKER.test(command));
      process.kill(worker?.pid ?? 0, "SIGKILL");
      await first.until(
        /The worker ended \(SIGKILL\); the backends go on\.[\s\S]*The worker runs again\./,
      );
      await healthy(url);

      const pids = pidsOf(first.pid);
      first.child.kill("SIGINT");
      expect(await first.ended).toBe(0);
      expect(stillRunning(pids)).toEqual([]);
      expect(first.stdout()).toContain("Everything is stopped.");

      const second = start("local/start.ts", args);
      const tenant = rows[0]?.tenant;
      const answer = await fetch(`${await urlOf(second)}/usage/${tenant}`, { headers });
      expect(await answer.json()).toMatchObject({
        used: rows[0]?.booked,
        ...(availableRedis() === "redis-server" ? { recorded: rows[0]?.recorded } : {}),
      });
      if (availableRedis() === "js-redis-server")
        expect(second.stdout()).toMatch(/Redis starts empty/);
    },
    2 * BOOT_LIMIT_MS,
  );

  test(
    "leaves nothing when npm is killed",
    async () => {
      const options = ["--empty", "--database", "postgres", "--dir", join(root, "npm-killed")];
      const npm = spawn("npm", ["start", "--", ...options], {
        cwd: ROOT,
        stdio: ["ignore", "pipe", "ignore"],
      });
      await new Promise<void>((resolve) => {
        npm.stdout.on("data", (data) => RUNS_AT.test(String(data)) && resolve());
      });
      const pids = pidsOf(npm.pid ?? 0);
      expect(pids.length).toBeGreaterThanOrEqual(8);
      npm.kill("SIGKILL");
      await gone(pids);
    },
    BOOT_LIMIT_MS,
  );

  test("says which port is taken and what to do", async () => {
    const taken = createServer();
    const port = await freePort();
    await new Promise<void>((resolve) => taken.listen(port, "127.0.0.1", resolve));
    const run = start("local/start.ts", ["--port", String(port), "--dir", join(root, "taken")]);
    expect(await run.ended).toBe(1);
    expect(run.stderr()).toContain(
      `Port ${port} is taken, and the Functions host is to listen there.`,
    );
    expect(run.stderr()).toContain("with --port");
    taken.close();
  });

  test(
    "ends at Ctrl+C also while it is starting",
    async () => {
      const run = start("local/start.ts", ["--empty", "--dir", join(root, "impatient")]);
      await run.until(/Redis ready/);
      const pids = pidsOf(run.pid);
      run.child.kill("SIGINT");
      expect(await run.ended).toBe(0);
      await gone(pids);
    },
    BOOT_LIMIT_MS,
  );
});

describe("npm run dev", () => {
  test(
    "starts the worker again when a source changes",
    async () => {
      const run = start("local/dev.ts", ["--dir", join(root, "dev")]);
      const url = await urlOf(run);
      await run.until(/Watching src/);
      const now = new Date();
      utimesSync(join(ROOT, "src/queues.ts"), now, now);
      await run.until(/changed; starting the worker again\.[\s\S]*The worker runs again\./);
      await healthy(url);
    },
    BOOT_LIMIT_MS,
  );
});

function sampleRows(output: string) {
  const rows = output.matchAll(/^ {2}([a-z-]+) {2,}\S.*? {2,}(\d+) {2,}(\d+)$/gm);
  return [...rows].map(([, tenant, recorded, booked]) => ({ tenant, recorded, booked }));
}
