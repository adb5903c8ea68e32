import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { QueueServiceClient } from "@azure/storage-queue";
import { createClient } from "@supabase/supabase-js";
import { Redis } from "@upstash/redis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../../../local/backends/ports.ts";
import { STORAGE_QUEUES } from "../../../src/queues.ts";
import { processTree, stillRunning } from "../../support/process-tree.ts";
import { runLocalCommand } from "../../support/run-command.ts";

const NAMES = [
  "SUPABASE_URL",
  "SUPABASE_KEY",
  "UPSTASH_REDIS_REST_URL",
  "UPSTASH_REDIS_REST_TOKEN",
  "AzureWebJobsStorage",
];
const dir = mkdtempSync(join(tmpdir(), "worker-service-backends-"));
const taken = createServer();
beforeAll(() => chmodSync(dir, 0o755));
afterAll(() => {
  taken.close();
  rmSync(dir, { recursive: true, force: true });
});

const freePorts = async (): Promise<string[]> => {
  const flags = ["supabase", "postgres", "redis", "upstash", "blob", "queue"];
  const ports = await Promise.all(flags.map(() => freePort()));
  return flags.flatMap((flag, index) => [`--${flag}-port`, String(ports[index])]);
};

test("the settings it prints lead to backends that answer, and Ctrl+C leaves nothing", async () => {
  const args = ["--database", "postgres", "--dir", dir, ...(await freePorts())];
  const run = runLocalCommand("local/backends.ts", args);
  await run.until(/AzureWebJobsStorage=\S+\n/);
  const lines = run.stdout().trim().split("\n");
  const settings = Object.fromEntries(
    lines.map((line) => [line.split("=", 1)[0], line.replace(/^\w+=/, "")]),
  );
  expect(Object.keys(settings)).toEqual(NAMES);

  const { UPSTASH_REDIS_REST_URL, UPSTASH_REDIS_REST_TOKEN, SUPABASE_URL, SUPABASE_KEY } = settings;
  const redis = new Redis({ url: UPSTASH_REDIS_REST_URL, token: UPSTASH_REDIS_REST_TOKEN });
  expect(await redis.ping()).toBe("PONG");
  const supabase = createClient(SUPABASE_URL ?? "", SUPABASE_KEY ?? "");
  expect((await supabase.from("absent").select()).error?.code).toBe("PGRST205");
  const storage = QueueServiceClient.fromConnectionString(settings["AzureWebJobsStorage"] ?? "");
  const queues = await Array.fromAsync(storage.listQueues(), ({ name }) => name);
  expect(queues.sort()).toEqual([...STORAGE_QUEUES].sort());

  const pids = processTree(run.pid).map(({ pid }) => pid);
  run.child.kill("SIGINT");
  expect(await run.ended).toBe(0);
  expect(stillRunning(pids)).toEqual([]);
});

test("a port that was asked for and is taken ends it with a message", async () => {
  const port = await freePort();
  await new Promise<void>((resolve) => taken.listen(port, "127.0.0.1", resolve));
  const args = ["--dir", dir, "--redis-port", String(port)];
  const run = runLocalCommand("local/backends.ts", args);
  expect(await run.ended).toBe(1);
  expect(run.stderr()).toContain(`Port ${port} is taken, and Redis is to listen there.`);
  expect(run.stderr()).toContain("--redis-port");
  expect(run.stdout()).toBe("");
});
