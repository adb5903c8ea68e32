import { fileURLToPath } from "node:url";
import { startAzurite } from "../../local/backends/azurite.ts";
import { type RunningChild, startNodeChild } from "../../local/backends/child-process.ts";
import { createQueues } from "../../local/backends/storage-queues.ts";
import { STORAGE_QUEUES } from "../../src/queues.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const HOST = new URL("../../local/functions-host/worker.ts", import.meta.url);

/** The development key of every test worker: role admin, no use anywhere else. */
export const TEST_KEY = "wsk_test-only-key-for-loopback-0123456789";
const TEST_KEY_ENTRY =
  "test:admin:sha256:e0955d1ccf46fd44bcd0b9df58b59f59eeae1ae6bbee2cfe7c2f9c0d5b691ec4";

export interface TestWorker {
  readonly url: string;
  readonly child: RunningChild;
  get(path: string): Promise<{ status: number; body: Record<string, unknown> }>;
  post(path: string, body: unknown): Promise<{ status: number; body: Record<string, unknown> }>;
}

/** The service as it ships, in the embedded host, in a process of its own that can be killed. */
export async function startWorker(
  env: Readonly<Record<string, string>>,
  entry = "src/main.ts",
): Promise<TestWorker> {
  const args = ["--dir", ROOT, "--entry", entry, "--port", "0", "--max-poll-ms", "100", "--json"];
  const child = await startNodeChild("worker", HOST, args, {
    env: { ...process.env, TZ: "UTC", ENVIRONMENT: "test", API_KEYS: TEST_KEY_ENTRY, ...env },
  });
  const call = async (path: string, init: RequestInit) => {
    const headers = { "x-api-key": TEST_KEY, "content-type": "application/json" };
    const signal = AbortSignal.timeout(10_000);
    const response = await fetch(`${child.value}${path}`, { ...init, headers, signal });
    const text = await response.text();
    return { status: response.status, body: text === "" ? {} : JSON.parse(text) };
  };
  return {
    url: child.value,
    child,
    get: (path) => call(path, { method: "GET" }),
    post: (path, body) => call(path, { method: "POST", body: JSON.stringify(body) }),
  };
}

/** Queues nobody else sees, with everything the functions listen to. */
export async function openWorkerQueues(): Promise<{
  connectionString: string;
  close(): Promise<void>;
}> {
  const azurite = await startAzurite({});
  await createQueues(azurite.connectionString, STORAGE_QUEUES);
  return azurite;
}
