import { chmodSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { STORAGE_QUEUES } from "../src/queues.ts";
import { startNodeChild } from "./backends/child-process.ts";
import { startBackends } from "./backends/stack.ts";
import { StartError } from "./backends/start-error.ts";
import { runCommand } from "./command.ts";
import { DEVELOPMENT_KEY, workerEnvironment } from "./worker-environment.ts";

const HOST_ENTRY = new URL("./functions-host/worker.ts", import.meta.url);
const PACKAGE = fileURLToPath(new URL("../.package", import.meta.url));
const CALL_DEADLINE_MS = 5000;
const AVAILABLE_WITHIN_MS = 30_000;

await runCommand({
  help: `
npm run smoke

Starts the package that npm run build made, as it would be deployed, on embedded backends; asks it for /health, records
one use and reads it back. Ends with 0 when everything answered as it should.
`,
  options: {},
  run: smoke,
});

async function smoke(_: unknown, stop: AbortSignal): Promise<void> {
  if (!existsSync(join(PACKAGE, "host.json"))) {
    throw new StartError("There is no package in .package/. Run `npm run build` first.");
  }
  const dir = mkdtempSync(join(tmpdir(), "worker-service-smoke-"));
  chmodSync(dir, 0o755); // Postgres runs as another user when we are root
  const backends = await startBackends({
    dir,
    database: "postgres",
    queues: STORAGE_QUEUES,
    log: () => {},
    abort: stop,
  });
  try {
    const args = ["--dir", PACKAGE, "--port", "0", "--state", join(dir, "timers.json")];
    const env = workerEnvironment(backends);
    const worker = await startNodeChild("The package", HOST_ENTRY, args, { env, abort: stop });
    await ask(worker.value).finally(() => worker.stop());
  } finally {
    await backends.stop();
    rmSync(dir, { recursive: true, force: true });
  }
  console.log("The package starts, is healthy and records usage.");
}

async function ask(url: string): Promise<void> {
  await untilAvailable(`${url}/health`);
  await expectAnswer(`${url}/readyz`, {}, '"ok":true');
  const use = {
    tenant: "smoke",
    tokens: 42,
    requestId: "smoke-1",
    occurredAt: new Date().toISOString(),
    type: "llm",
  };
  const headers = { "x-api-key": DEVELOPMENT_KEY, "content-type": "application/json" };
  await expectAnswer(
    `${url}/usage`,
    { method: "POST", headers, body: JSON.stringify(use) },
    '"recorded":1',
  );
  await expectAnswer(`${url}/usage/smoke`, { headers }, '"recorded":"42"');
}

/** The first answers of cold backends may be slow, which is `degraded`. */
async function untilAvailable(url: string): Promise<void> {
  const until = Date.now() + AVAILABLE_WITHIN_MS;
  for (;;) {
    const response = await fetch(url, { signal: AbortSignal.timeout(CALL_DEADLINE_MS) });
    const text = await response.text();
    const isAvailable = response.ok && text.includes('"status":"available"');
    if (isAvailable || Date.now() > until) {
      console.log(`GET /health → ${response.status} ${text}`);
      if (isAvailable) return;
      throw new StartError("The package did not become available in time.");
    }
    await sleep(500);
  }
}

async function expectAnswer(url: string, init: RequestInit, part: string): Promise<void> {
  const response = await fetch(url, { ...init, signal: AbortSignal.timeout(CALL_DEADLINE_MS) });
  const text = await response.text();
  console.log(`${init.method ?? "GET"} ${new URL(url).pathname} → ${response.status} ${text}`);
  if (response.ok && text.includes(part)) return;
  throw new StartError(`Expected a 2xx with ${part}.`);
}
