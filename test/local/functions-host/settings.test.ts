import { expect, test } from "vitest";
import { readHostJson } from "../../../local/functions-host/host-json.ts";
import { applyLocalSettings, connectionString } from "../../../local/functions-host/settings.ts";
import { parseTimeSpan } from "../../../local/functions-host/time-span.ts";
import { createApp } from "./support.ts";

const local = (content: object) =>
  createApp({ "local.settings.json": { IsEncrypted: false, ...content } });

test("a process variable beats local.settings.json unless it is empty, and null counts as absent", () => {
  const env: Record<string, string> = { SET: "process", EMPTY: "" };
  const dir = local({
    Values: { SET: "file", EMPTY: "file", NEW: "file", NONE: null, FLAG: true },
  });
  applyLocalSettings(dir, env);
  expect(env).toEqual({
    SET: "process",
    EMPTY: "file",
    NEW: "file",
    FLAG: "true",
    FUNCTIONS_WORKER_RUNTIME: "node",
    AZURE_FUNCTIONS_ENVIRONMENT: "Development",
  });
});

test("the host section gives port and origins", () => {
  const Host = { LocalHttpPort: 7072, CORS: "*", CORSCredentials: true };
  expect(applyLocalSettings(local({ Host }), {})).toEqual({
    port: 7072,
    cors: "*",
    hasCorsCredentials: true,
  });
  expect(applyLocalSettings(createApp({}), {})).toEqual({ hasCorsCredentials: false });
});

test.each<[what: string, content: string | object, reason: string]>([
  ["it may be encrypted", { Values: {} }, '"IsEncrypted" must be false'],
  [
    "a value is not flat",
    { IsEncrypted: false, Values: { A: {} } },
    'the value of "A" must be a string',
  ],
  ["it is not JSON", "{", "is not JSON"],
  ["it is a list", "[]", "must hold one JSON object"],
])("local.settings.json is refused when %s", (_what, content, reason) => {
  const dir = createApp({ "local.settings.json": content });
  expect(() => applyLocalSettings(dir, {})).toThrow(reason);
});

test("a connection is found under three names", () => {
  expect(connectionString("Storage", { AzureWebJobsStorage: "a" })).toBe("a");
  expect(connectionString("Other", { Other: "b", AzureWebJobsStorage: "a" })).toBe("b");
  const env: Record<string, string> = {};
  applyLocalSettings(local({ ConnectionStrings: { Third: "c" } }), env);
  expect(connectionString("Third", env)).toBe("c");
});

test("a connection that is missing, or works in Azure only, is named", () => {
  expect(() => connectionString("Storage", {})).toThrow('The connection "Storage" is not set');
  expect(() => connectionString("Queue", { Queue__accountName: "x" })).toThrow(
    "Identity-based connections work in Azure only",
  );
});

const hostJson = (content: object, env: Record<string, string> = {}) =>
  readHostJson(createApp({ "host.json": content }), env);

test("host.json has the defaults of Azure", () => {
  expect(hostJson({ version: "2.0" })).toEqual({
    routePrefix: "api",
    functionTimeoutMs: 1_800_000,
    allowedFunctions: undefined,
    customHeaders: {},
    queues: {
      batchSize: 16,
      newBatchThreshold: 8,
      maxDequeueCount: 5,
      visibilityTimeoutMs: 0,
      maxPollingIntervalMs: 60_000,
      messageEncoding: "base64",
    },
  });
});

test("a setting AzureFunctionsJobHost__… beats host.json, whatever the case of the keys", () => {
  const content = {
    version: "2.0",
    functions: ["a", "b"],
    functionTimeout: "00:05:00",
    extensions: {
      http: { routePrefix: "v1" },
      queues: { batchSize: 4, visibilityTimeout: "00:00:30" },
    },
  };
  const read = hostJson(content, {
    AzureFunctionsJobHost__extensions__http__routePrefix: "",
    azurefunctionsjobhost__Extensions__Queues__BatchSize: "32",
    AzureFunctionsJobHost__functionTimeout: "-1",
    AzureFunctionsJobHost__functions__1: "C",
  });
  expect(read).toMatchObject({
    routePrefix: "",
    functionTimeoutMs: undefined,
    queues: { batchSize: 32, newBatchThreshold: 16, visibilityTimeoutMs: 30_000 },
  });
  expect(read.allowedFunctions).toEqual(new Set(["a", "c"]));
});

test.each<[content: object, reason: string]>([
  [{ version: 2 }, '"version" must be the string "2.0"'],
  [{ version: "2.0", functionTimeout: 300 }, '"functionTimeout" must be a string'],
  [{ version: "2.0", functionTimeout: "5 min" }, '"functionTimeout" must be a time span'],
  [queues({ batchSize: 33 }), '"extensions.queues.batchSize" must be a whole number from 1 to 32'],
  [queues({ batchSize: "" }), '"extensions.queues.batchSize" must be a whole number'],
  [queues({ maxPollingInterval: 2000 }), 'must be a time span such as "00:01:00", at least 100 ms'],
  [queues({ maxPollingInterval: "00:00:00.050" }), "at least 100 ms"],
  [queues({ messageEncoding: "utf8" }), "must be base64 or none"],
])("host.json %j is refused: %s", (content, reason) => {
  expect(() => hostJson(content)).toThrow(reason);
});

function queues(settings: object): object {
  return { version: "2.0", extensions: { queues: settings } };
}

test("a missing host.json is named", () => {
  expect(() => readHostJson("/nowhere", {})).toThrow("host.json is missing");
});

test.each<[text: string, ms: number | undefined]>([
  ["00:00:30", 30_000],
  ["00:05", 300_000],
  ["1.02:03:04.5", 93_784_500],
  ["00:00:00.100", 100],
  ["24:00:00", undefined],
  ["30", undefined],
  ["-1", undefined],
])("the time span %s is %s ms", (text, ms) => {
  expect(parseTimeSpan(text)).toBe(ms);
});
