import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FunctionMetadata, RawBinding } from "../../local/functions-host/core-types.ts";
import { compileRoute } from "../../local/functions-host/route-template.ts";
import { HTTP_METHODS } from "../../src/lib/runtime/web-app.http.ts";
import { STORAGE_QUEUES } from "../../src/queues.ts";
import { CLOSED_PORTS } from "../support/loaded-app.ts";

const RECORDER = fileURLToPath(
  new URL("../support/record-registrations.child.ts", import.meta.url),
);
const ENTRY = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
const LOAD_MS_MAX = 20_000;

interface Loaded {
  readonly functions: readonly FunctionMetadata[];
  readonly error?: string;
  readonly output: string;
}

/** Loads an entry in a process of its own, which must end by itself. */
async function load(env: Readonly<Record<string, string>>, entry = ENTRY): Promise<Loaded> {
  const child = fork(RECORDER, [entry], { env, silent: true, timeout: LOAD_MS_MAX });
  let output = "";
  let told: Omit<Loaded, "output"> | undefined;
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (data) => (output += data));
  child.on("message", (message) => {
    told = message as Omit<Loaded, "output">;
  });
  const [code, signal] = await once(child, "close");
  if (told === undefined) throw new Error(`the entry told nothing: ${output}`);
  expect([code, signal], "the process did not end by itself").toEqual([0, null]);
  return { ...told, output };
}

/** The parts of a registration that somebody outside relies on. */
function review({ name, bindings, retryOptions }: FunctionMetadata) {
  const parts = Object.entries(bindings).map(
    ([key, binding]) => [key, reviewBinding(binding)] as const,
  );
  const [trigger] = parts.filter(([, { type }]) => String(type).endsWith("Trigger"));
  const outputs = parts
    .filter((part) => part !== trigger)
    .map(([key, { type }]) => `${key}: ${type}`);
  const { maxRetryCount, retryStrategy } = retryOptions ?? {};
  const retry = retryOptions === undefined ? {} : { retry: `${retryStrategy} ${maxRetryCount}` };
  return { name, ...trigger?.[1], ...(outputs.length > 0 ? { outputs } : {}), ...retry };
}

/** Without what the library derives: a name made of a hash, the direction, a constant. */
const reviewBinding = ({ name: _, direction: _d, properties: _p, ...options }: RawBinding) =>
  options;

const http = (name: string, route: string) => ({
  name,
  type: "httpTrigger",
  route,
  methods: HTTP_METHODS,
  authLevel: "anonymous",
  outputs: ["$return: http"],
});
const queue = (name: string, queueName: string) => ({
  name,
  type: "queueTrigger",
  queueName,
  connection: "AzureWebJobsStorage",
});

const timer = (name: string, schedule: string, retry: string | undefined = undefined) => ({
  name,
  type: "timerTrigger",
  schedule,
  ...(retry === undefined ? {} : { retry }),
});

/** Reviewed by hand: what Azure sees. A row that changes is a change of the deployment. */
const REVIEWED = [
  queue("auditPeriod", "usage-audits"),
  queue("auditPeriodPoison", "usage-audits-poison"),
  timer("cleanup", "0 * * * *"),
  queue("consolidateShard", "usage-consolidations"),
  queue("consolidateShardPoison", "usage-consolidations-poison"),
  timer("dailyReconciliation", "0 2 * * *", "exponentialBackoff 5"),
  timer("dailyReports", "0 6 * * *"),
  queue("drainLegacyUsage", "usage-legacy"),
  queue("drainLegacyUsagePoison", "usage-legacy-poison"),
  http("graphWebhook", "listen/{*path}"),
  timer("healthCheck", "* * * * *"),
  http("healthProbes", "{probe:regex(^(health|healthz|readyz)$)}"),
  http("managementApi", "{*path}"),
  timer("monthlyAudit", "0 4 1 * *", "exponentialBackoff 5"),
  timer("observeUsage", "0 * * * * *"),
  queue("processDocumentHigh", "documents-high"),
  queue("processDocumentHighPoison", "documents-high-poison"),
  queue("processDocumentLow", "documents-low"),
  queue("processDocumentLowPoison", "documents-low-poison"),
  queue("processDocumentNormal", "documents-normal"),
  queue("processDocumentNormalPoison", "documents-normal-poison"),
  queue("processDocumentUrgent", "documents-urgent"),
  queue("processDocumentUrgentPoison", "documents-urgent-poison"),
  queue("reconcileShard", "usage-shards"),
  queue("reconcileShardPoison", "usage-shards-poison"),
  queue("runJob", "job-runs"),
  queue("runJobPoison", "job-runs-poison"),
  timer("sweepDocuments", "40 */5 * * * *"),
  timer("sweepWork", "10 * * * * *"),
  timer("usageAlerts", "30 */5 * * * *"),
  timer("weeklyConsolidation", "0 3 * * 0", "exponentialBackoff 5"),
  timer("weeklyExport", "0 2 * * 0"),
];
/** Checked by the app itself, or by the sender's secret; see `public-routes.test.ts`. */
const ANONYMOUS = ["graphWebhook", "healthProbes", "managementApi"];

const byName = (a: { name: string }, b: { name: string }): number => (a.name < b.name ? -1 : 1);

let loaded: Loaded;
beforeAll(async () => {
  loaded = await load(CLOSED_PORTS);
});

describe("the entry", () => {
  test("registers the reviewed functions and nothing else", () => {
    expect(loaded.error).toBeUndefined();
    expect(loaded.functions.map(review).sort(byName)).toEqual(REVIEWED);
  });

  test("names functions in camelCase, as settings can hold it, and no two alike but for their case", () => {
    const names = loaded.functions.map(({ name }) => name);
    for (const name of names) expect(name).toMatch(/^[a-z][a-zA-Z0-9]{2,60}$/);
    expect(new Set(names.map((name) => name.toLowerCase())).size).toBe(names.length);
  });

  test("leaves the keys of the host to no function that is not reviewed as anonymous", () => {
    const open = REVIEWED.filter((row) => "authLevel" in row && row.authLevel === "anonymous");
    expect(open.map(({ name }) => name)).toEqual(ANONYMOUS);
  });

  test("listens only to queues that infrastructure creates, and to all of them", () => {
    const listened = REVIEWED.flatMap((row) => ("queueName" in row ? [row.queueName] : []));
    expect(listened.sort()).toEqual([...STORAGE_QUEUES].sort());
  });

  test("binds no schedule, queue or route to the name of a setting", () => {
    expect(JSON.stringify(loaded.functions)).not.toMatch(/%\w+%/);
  });

  test("takes the schedule from the setting", async () => {
    const { functions } = await load({
      ...CLOSED_PORTS,
      RECONCILIATION_SCHEDULE_DAILY: "*/10 * * * *",
    });
    const [timer] = functions.filter(({ name }) => name === "dailyReconciliation").map(review);
    expect(timer).toMatchObject({ schedule: "*/10 * * * *" });
  });

  test("warns of a setting that looks like ours and is none, by its name only", async () => {
    const { output, error } = await load({ ...CLOSED_PORTS, USAGE_BATCH_MAXX: "hunter2" });
    expect(error).toBeUndefined();
    expect(output).toContain('{"event":"setting_unknown","setting":"USAGE_BATCH_MAXX"}');
    expect(output).not.toContain("hunter2");
  });
});

describe("the order in which the host tries routes", () => {
  const PATHS: Record<string, string> = {
    "/health": "healthProbes",
    "/healthz": "healthProbes",
    "/readyz": "healthProbes",
    "/listen": "graphWebhook",
    "/listen/lifecycle": "graphWebhook",
    "/usage": "managementApi",
    "/usage/acme": "managementApi",
    "/healthy": "managementApi",
    "/openapi.json": "managementApi",
    "/": "managementApi",
  };

  test("is alphabetical, so the widest route sorts last", () => {
    const names = REVIEWED.filter(({ type }) => type === "httpTrigger").map(({ name }) => name);
    expect(names).toEqual(
      [...names].sort((a, b) => a.localeCompare(b, "en", { sensitivity: "base" })),
    );
    expect(names.at(-1)).toBe("managementApi");
  });

  test("starts no route with what the host keeps to itself", () => {
    for (const row of REVIEWED)
      expect("route" in row ? row.route : "").not.toMatch(/^(admin|runtime)/i);
  });

  test.each(Object.entries(PATHS))("leads %s to %s", (path, expected) => {
    const routes = REVIEWED.flatMap((row) => ("route" in row ? [row] : []));
    const first = routes.find(({ route }) => compileRoute(route)(path) !== undefined);
    expect(first?.name).toBe(expected);
  });
});

describe("registration", () => {
  test("touches no network", async () => {
    let connections = 0;
    const server = createServer((socket) => {
      connections += 1;
      socket.destroy();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const at = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const { functions, error } = await load({
      AzureWebJobsStorage: `DefaultEndpointsProtocol=http;AccountName=a;AccountKey=eA==;QueueEndpoint=http://${at}/a;`,
      SUPABASE_URL: `http://${at}`,
      SUPABASE_KEY: "a-service-role-key-of-some-length",
      REDIS_URL: `redis://${at}`,
      UPSTASH_REDIS_REST_URL: `http://${at}`,
      UPSTASH_REDIS_REST_TOKEN: "token",
    });
    server.close();
    expect([functions.length, error, connections]).toEqual([REVIEWED.length, undefined, 0]);
  });
});

describe("host.json", () => {
  const host = JSON.parse(readFileSync(new URL("../../host.json", import.meta.url), "utf8"));

  test("keeps documented paths free of a prefix", () => {
    expect(host).toMatchObject({ version: "2.0", extensions: { http: { routePrefix: "" } } });
  });

  test("lets a run end by its own deadline, its fate included, before the host ends it", () => {
    expect(host.functionTimeout).toBe("00:10:00"); // 540 s of the run and 30 s to settle it
  });

  test("repeats and reads messages as the queues are written", () => {
    expect(host.extensions.queues).toMatchObject({
      maxDequeueCount: 5,
      visibilityTimeout: "00:00:30",
      messageEncoding: "base64",
    });
  });

  test("names an extension bundle, without which queues are not read", () => {
    expect(host.extensionBundle.id).toBe("Microsoft.Azure.Functions.ExtensionBundle");
  });
});

describe("an entry with bad settings", () => {
  test("fails the start after every function is registered, and names every bad setting and no value", async () => {
    const { functions, error = "" } = await load({
      SUPABASE_URL: "hunter2",
      REDIS_URL: "hunter2",
      RECONCILIATION_SCHEDULE_DAILY: "hunter2",
      USAGE_BATCH_MAX: "hunter2",
    });
    expect(functions.map(({ name }) => name).sort()).toEqual(REVIEWED.map(({ name }) => name));
    for (const name of [
      "AzureWebJobsStorage",
      "SUPABASE_URL",
      "SUPABASE_KEY",
      "REDIS_URL",
      "RECONCILIATION_SCHEDULE_DAILY",
      "USAGE_BATCH_MAX",
    ])
      expect(error).toContain(`${name}: `);
    expect(error).not.toContain("hunter2");
  });

  test("fails the start of an empty environment, too", async () => {
    const { functions, error } = await load({});
    expect(functions).toHaveLength(REVIEWED.length);
    expect(error).toContain("The configuration is not valid");
  });
});

describe("this test", () => {
  const dir = mkdtempSync(join(tmpdir(), "worker-service-entry-"));
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  const entry = (text: string): string => {
    const file = join(dir, `entry-${text.length}.ts`);
    writeFileSync(file, text);
    return file;
  };

  test("sees an entry that registers nothing", async () => {
    const { functions } = await load(CLOSED_PORTS, entry("export {};\n"));
    expect(functions).not.toEqual(loaded.functions);
    expect(functions).toEqual([]);
  });

  test("sees a throw before the first registration, which the host would take for an app without functions", async () => {
    const { functions, error } = await load(CLOSED_PORTS, entry('throw new Error("first");\n'));
    expect([functions, error]).toEqual([[], "Error: first"]);
  });
});
