import { connectUsageProducer } from "../../src/producer.ts";
import { announceReady, endWithParent } from "../backends/child-entry.ts";
import { processDocuments, SAMPLE_WORKSPACE } from "./process-documents.ts";
import { simulateProduct } from "./simulate-product.ts";
import {
  type Caller,
  createCaller,
  createWorkerClient,
  isBooked,
  type TenantTotal,
} from "./worker-client.ts";

/** Settings: AzureWebJobsStorage, UPSTASH_REDIS_REST_URL, UPSTASH_REDIS_REST_TOKEN, WORKER_URL, WORKER_KEY, SAMPLE_DURATION_MS. */
const env = process.env;
const DURATION_MS = Number(env["SAMPLE_DURATION_MS"] ?? 24_000);
const REQUESTS_PER_SECOND = 16;
const BOOKED_WITHIN_MS = 60_000;

const stop = new AbortController();
endWithParent(async () => stop.abort());
announceReady("sample");
try {
  const url = env["WORKER_URL"] ?? "";
  const call = createCaller(url, env["WORKER_KEY"] ?? "");
  await Promise.all([runSample(url, call), runDocuments(url, call)]);
  process.exit(0);
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exit(1);
}

/** On a store without usage: a product records, the worker books, and both sides are shown. Else nothing. */
async function runSample(url: string, call: Caller): Promise<void> {
  const worker = createWorkerClient(call);
  const before = await worker.readTotals();
  if (before.some(({ recorded, booked }) => recorded !== "0" || booked !== "0")) {
    say("There is usage from an earlier start; no sample work this time.");
    return;
  }
  say(
    `A simulated product records usage of ${before.length} customers for ${DURATION_MS / 1000} s …`,
  );
  const { recorded, duplicates } = await record();
  if (stop.signal.aborted) return;
  say(`It recorded ${recorded} uses, and repeated ${duplicates} of them: those count once.`);
  say("Running the job daily_reconciliation, which books them in the ledger …");
  await worker.startReconciliation();
  show(await worker.untilBooked(BOOKED_WITHIN_MS, stop.signal), url);
}

/** On a store without documents: a product stores a few, the worker processes them, and a search is shown. */
async function runDocuments(url: string, call: Caller): Promise<void> {
  try {
    const shown = await processDocuments(call, env["AzureWebJobsStorage"] ?? "", stop.signal);
    if (shown === undefined) return;
    say("Three documents were stored, processed and searched:");
    console.log(`\n${shown}\n`);
    say(`What is served of them: ${url}/documents?workspace=${SAMPLE_WORKSPACE}`);
  } catch (error) {
    say(`The documents were not shown: ${error instanceof Error ? error.message : String(error)}`);
  }
}

async function record() {
  const producer = connectUsageProducer({
    upstash: {
      url: env["UPSTASH_REDIS_REST_URL"] ?? "",
      token: env["UPSTASH_REDIS_REST_TOKEN"] ?? "",
    },
  });
  const options = { durationMs: DURATION_MS, requestsPerSecond: REQUESTS_PER_SECOND };
  try {
    return await simulateProduct(producer, options, stop.signal);
  } finally {
    await producer.close();
  }
}

function show(totals: readonly TenantTotal[], url: string): void {
  const rows = [
    ["tenant", "customer", "recorded (Redis)", "booked (ledger)"],
    ...totals.map(({ tenant, name, recorded, booked }) => [tenant, name, recorded, booked]),
  ];
  console.log(`\n${table(rows)}\n`);
  const behind = totals.filter((total) => !isBooked(total));
  say(
    behind.length === 0
      ? "Every token is booked exactly once."
      : `Not booked after ${BOOKED_WITHIN_MS / 1000} s: ${behind.map(({ tenant }) => tenant).join(", ")}. See ${url}/health`,
  );
  say(
    `By model, and what is pending: ${url}/usage/${totals[0]?.tenant}; the run: ${url}/usage-runs`,
  );
}

/** Words to the left, numbers to the right. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const cell = (text: string, column: number): string =>
    column < 2 ? text.padEnd(widths[column] ?? 0) : text.padStart(widths[column] ?? 0);
  return rows.map((row) => `  ${row.map(cell).join("   ")}`).join("\n");
}

function say(line: string): void {
  console.log(`[sample] ${line}`);
}
