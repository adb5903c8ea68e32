import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { startAzurite } from "../../../local/backends/azurite.ts";
import {
  type RunningChild,
  startChild,
  startNodeChild,
} from "../../../local/backends/child-process.ts";
import { lockFolder } from "../../../local/backends/folder-lock.ts";
import { freePort } from "../../../local/backends/ports.ts";
import { startRedis } from "../../../local/backends/redis.ts";
import { startBackends } from "../../../local/backends/stack.ts";
import { startUpstashBridge } from "../../../local/backends/upstash-bridge.ts";
import { processTree, stillRunning } from "../../support/process-tree.ts";

const GONE_WITHIN_MS = 10_000;
const dir = mkdtempSync(join(tmpdir(), "worker-service-processes-"));
chmodSync(dir, 0o755); // as root, Postgres runs as somebody else
const spawned: number[] = [];

afterEach(() => {
  for (const { pid } of stillRunning(spawned.splice(0))) process.kill(pid, "SIGKILL");
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const gone = (pids: readonly number[]) =>
  expect
    .poll(() => stillRunning(pids).map(({ command }) => command), { timeout: GONE_WITHIN_MS })
    .toEqual([]);

describe.each([
  ["pglite", "SIGKILL"],
  ["postgres", "SIGTERM"],
] as const)("a parent with every backend on %s that gets %s", (database, signal) => {
  test("leaves no process, and its folder can be used again", async () => {
    const folder = join(dir, `${database}-${signal}`);
    const file = fileURLToPath(new URL("./stack-holder.ts", import.meta.url));
    const holder = spawn(process.execPath, [file, folder, database], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    await new Promise((resolve) => holder.stdout.once("data", resolve));
    const tree = processTree(holder.pid ?? 0).map(({ pid }) => pid);
    spawned.push(...tree);
    expect(tree.length).toBeGreaterThanOrEqual(5);

    holder.kill(signal);
    await gone(tree);

    const again = await startBackends({ dir: folder, database, queues: [], log: () => {} });
    await again.stop();
  }, 60_000);
});

describe("a child process", () => {
  test("of ours ends when its stdin ends", async () => {
    const entry = new URL("../../../local/backends/azurite.child.ts", import.meta.url);
    const child = await startNodeChild("Azurite", entry, []);
    spawned.push(child.pid);
    await child.stop();
    expect(await child.ended).toBe("exit code 0");
  });

  const guarded = (script: string, ready = /up/): Promise<RunningChild> =>
    startChild({
      name: "The program",
      command: process.execPath,
      args: ["-e", script],
      ready,
      readyWithinMs: 3_000,
      guardSignal: "TERM",
    });

  test("that does not watch its stdin gets the signal it understands", async () => {
    const script =
      "process.on('SIGTERM', () => { console.log('bye'); process.exit(0); }); console.log('up'); setInterval(() => {}, 1e6)";
    const child = await guarded(script);
    spawned.push(child.pid);
    await child.stop();
    expect(await child.ended).toBe("exit code 0");
    expect(child.output()).toContain("bye");
  });

  test("that is stopped by SIGSTOP ends as well", async () => {
    const child = await guarded("console.log('up'); setInterval(() => {}, 1e6)");
    spawned.push(child.pid);
    child.signal("SIGSTOP");
    await child.stop();
    await gone([child.pid]);
  });

  test("that ends by itself is noticed, with how", async () => {
    const child = await guarded("console.log('up'); setTimeout(() => process.exit(7), 100)");
    expect(await child.ended).toBe("exit code 7");
  });

  test("that cannot start is an error with what it said", async () => {
    const failing = guarded("console.error('no such luck'); process.exit(3)");
    await expect(failing).rejects.toThrow(
      "The program could not start (exit code 3):\nno such luck",
    );
  });

  test("that is not there is an error that says so", async () => {
    const missing = startChild({ name: "Nothing", command: "/nowhere/nothing", args: [] });
    await expect(missing).rejects.toThrow(/Nothing could not start \(.*ENOENT/);
  });

  test("that never gets ready is ended after the time limit", async () => {
    const started = startChild({
      name: "The program",
      command: process.execPath,
      args: ["-e", "console.log('PID ' + process.pid); setInterval(() => {}, 1e6)"],
      readyWithinMs: 500,
      guardSignal: "TERM",
    });
    const error = await started.catch(String);
    expect(error).toMatch(/The program was not ready after 0.5 s:\nPID \d+/);
    await gone([Number(/PID (\d+)/.exec(String(error))?.[1])]);
  });

  test("whose start is given up is ended", async () => {
    const abort = new AbortController();
    const started = startChild({
      name: "The program",
      command: process.execPath,
      args: ["-e", "console.log('PID ' + process.pid); setInterval(() => {}, 1e6)"],
      onOutput: () => abort.abort(new Error("given up")),
      guardSignal: "TERM",
      abort: abort.signal,
    });
    await expect(started).rejects.toThrow("given up");
  });
});

describe("a port that is taken", () => {
  const taken = createServer();
  afterAll(() => taken.close());

  test("is named, with who wants it and the flag that chooses another", async () => {
    const port = await freePort();
    await new Promise<void>((resolve) => taken.listen(port, "127.0.0.1", resolve));
    const message = (what: string, flag: string) =>
      `Port ${port} is taken, and ${what} is to listen there. Stop what uses it (\`lsof -i :${port}\` names it), ` +
      `or choose another port with ${flag}.`;
    await expect(startRedis({ port })).rejects.toThrow(message("Redis", "--redis-port"));
    await expect(startAzurite({ queuePort: port })).rejects.toThrow(
      message("the queue storage", "--queue-port"),
    );
    const bridge = startUpstashBridge({ redisUrl: "redis://127.0.0.1:1", token: "t", port });
    await expect(bridge).rejects.toThrow(message("the Upstash REST bridge", "--upstash-port"));
  });
});

describe("a data folder", () => {
  test("belongs to one process at a time", async () => {
    const folder = join(dir, "locked");
    const lock = await lockFolder(folder, "test");
    const second = lockFolder(folder, "test", 200);
    await expect(second).rejects.toThrow(/Another process of this project uses .*locked/);
    lock.release();
    (await lockFolder(folder, "test")).release();
  });

  test("waits for a predecessor that is on its way out", async () => {
    const folder = join(dir, "handed-over");
    const lock = await lockFolder(folder, "test");
    const second = lockFolder(folder, "test");
    lock.release();
    (await second).release();
  });
});
