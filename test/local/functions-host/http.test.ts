import { request as httpRequest } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type RunningHost, startHost } from "../../../local/functions-host/host.ts";
import { fixture, keptLog, tempDir, until } from "./support.ts";

const KEYS = {
  master: "master-key",
  host: { default: "host-key" },
  functions: { WITHKEY: { default: "function-key" } },
};
const log = keptLog();
let host: RunningHost;

beforeAll(async () => {
  process.env["AzureWebJobs.switchedOff.Disabled"] = "true";
  process.env["FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"] = "100000";
  host = await startHost({
    dir: fixture("http-app"),
    port: 0,
    enableAuth: true,
    keys: KEYS,
    cors: ["https://app.example.com"],
    timers: false,
    stopWithinMs: 200,
    stateFile: `${tempDir()}/timers.json`,
    logger: log.logger,
  });
});
afterAll(() => host.stop());

const call = (path: string, init?: RequestInit) => fetch(`${host.url}${path}`, init);
const json = async (path: string, init?: RequestInit) => (await call(path, init)).json();
const status = async (path: string, init?: RequestInit) => (await call(path, init)).status;
const key = (value: string) => ({ headers: { "x-functions-key": value } });

test("every file that main matches is loaded, in the order of the function names", () => {
  const names = host.functions.map(({ name }) => name);
  expect(names.slice(0, 4)).toEqual(["aItems", "bItems", "byHand", "bytes"]);
  expect(names.at(-1)).toBe("zCatchAll");
  expect(host.functions.find(({ name }) => name === "withKey")).toMatchObject({
    triggerType: "httpTrigger",
    isDisabled: false,
    bindings: [
      { type: "httpTrigger", route: "with-key", authLevel: "function", methods: ["GET", "POST"] },
      { name: "$return", type: "http", direction: "out" },
    ],
  });
});

test("of two routes that match the function first in the alphabet wins, not the more special route", async () => {
  expect(await json("/items/static")).toEqual({ name: "aItems", params: { id: "static" } });
});

test("constraints, optional parameters, defaults and catch-alls are those of ASP.NET", async () => {
  expect(await json("/NUMBERS/12")).toEqual({ name: "Number", params: { id: "12" } });
  expect(await status("/numbers/9")).toBe(404);
  expect(await status("/numbers/many")).toBe(404);
  expect(await json("/optional")).toEqual({ name: "optional", params: {} });
  expect(await json("/optional/x")).toEqual({ name: "optional", params: { id: "x" } });
  expect(await json("/fallback")).toEqual({ name: "fallback", params: { id: "none" } });
  expect(await json("/files/a/b%2Fc/d%20e")).toMatchObject({ params: { path: "a/b%2Fc/d e" } });
  expect(await json("/noroute")).toMatchObject({ name: "noRoute" });
});

test("a known path with another method is not found, and HEAD does not come with GET", async () => {
  expect(await status("/echo", { method: "DELETE" })).toBe(404);
  expect(await status("/echo", { method: "HEAD" })).toBe(404);
  expect(await status("/noRoute", { method: "POST" })).toBe(404);
  expect(await status("/nowhere")).toBe(404);
});

test("a request arrives with its method, URL, joined query values, headers and body", async () => {
  const init = { method: "PUT", body: "text", headers: { "X-Test": "a b" } };
  expect(await json("/echo?a=1&a=2&b=%C3%B1", init)).toEqual({
    method: "PUT",
    url: `${host.url}/echo?a=1&a=2&b=%C3%B1`,
    query: { a: "1,2", b: "ñ" },
    header: "a b",
    body: "text",
  });
});

test("a target that looks like another host stays on this one", async () => {
  const answer = await rawRequest({ path: "//evil.example/echo" });
  expect(answer.status).toBe(404);
});

test("a request whose host is not one is refused", async () => {
  const answer = await rawRequest({ path: "/echo", headers: { host: "a b" } });
  expect(answer.status).toBe(400);
});

test("bytes go through unchanged", async () => {
  const body = Uint8Array.from({ length: 256 }, (_, index) => index);
  const answer = await call("/bytes", { method: "POST", body });
  expect(new Uint8Array(await answer.arrayBuffer())).toEqual(body);
});

test("a chunked upload arrives empty, because only an announced length is handed on", async () => {
  const answer = await rawRequest({ path: "/echo", method: "POST", chunks: ["some ", "text"] });
  expect(JSON.parse(answer.body)).toMatchObject({ method: "POST", body: "" });
});

test("a body over the limit is refused before it is read", async () => {
  const answer = await call("/echo", { method: "POST", body: "x".repeat(100_001) });
  expect(answer.status).toBe(413);
});

test("what a handler returns becomes the response", async () => {
  expect(await status("/nothing")).toBe(200);
  expect(await status("/empty")).toBe(204);
  const native = await call("/response");
  expect([native.status, native.headers.get("x-kind"), await native.text()]).toEqual([
    418,
    "native",
    "native",
  ]);
});

test("several cookies are set with their attributes", async () => {
  const answer = await call("/cookies");
  expect(answer.status).toBe(201);
  expect(answer.headers.getSetCookie()).toEqual([
    "a=1%202; Max-Age=0; Path=/; Secure; SameSite=Lax; HttpOnly",
    "b=2; Expires=Wed, 02 Jan 2030 03:04:05 GMT; Domain=example.com",
  ]);
});

test("a handler that throws, or returns text, is 500 without details, and the reason is in the log", async () => {
  for (const path of ["/throws", "/text"]) {
    const answer = await call(path);
    expect([answer.status, await answer.text()]).toEqual([500, ""]);
  }
  const failures = log.entries.filter(({ message }) => message.includes("(Failed, Id="));
  expect(failures.map(({ level, functionName }) => [level, functionName])).toEqual([
    ["error", "throws"],
    ["error", "text"],
  ]);
  expect(failures[0]?.message).toContain("secret detail");
});

test("every run writes one line before and one after it", async () => {
  await call("/nothing");
  const lines = log.entries.filter(({ functionName }) => functionName === "nothing").slice(-2);
  expect(lines.map(({ message }) => message)).toEqual([
    expect.stringMatching(/^Executing 'Functions.nothing' \(Id=[0-9a-f-]{36}\)$/),
    expect.stringMatching(
      /^Executed 'Functions.nothing' \(Succeeded, Id=[0-9a-f-]{36}, Duration=\d+ms\)$/,
    ),
  ]);
});

test("invocation hooks may change the inputs and the result", async () => {
  expect(await (await call("/hooked")).text()).toBe("from the hook, and after it");
});

test("what a function logs carries its name and invocation, and passes the log hooks", async () => {
  await call("/logs");
  const entry = log.entries.find(({ category }) => category === "Function.logs.User");
  expect(entry).toMatchObject({
    level: "warning",
    message: "counted 2 times",
    functionName: "logs",
  });
  expect(entry?.invocationId).toMatch(/^[0-9a-f-]{36}$/);
});

test("headers of host.json are on every response", async () => {
  expect((await call("/nowhere")).headers.get("x-content-type-options")).toBe("nosniff");
});

test.each([
  ["no key", 401, 401, undefined],
  ["a wrong key", 401, 401, "wrong"],
  ["the function's key, whatever the case of its name,", 200, 401, "function-key"],
  ["a host key", 200, 401, "host-key"],
  ["the master key", 200, 200, "master-key"],
])("%s gets %i from level function and %i from level admin", async (_name, fn, admin, value) => {
  const init = value === undefined ? undefined : key(value);
  expect(await status("/with-key", init)).toBe(fn);
  expect(await status("/for-admin", init)).toBe(admin);
  if (value !== undefined) expect(await status(`/with-key?code=${value}`)).toBe(fn);
});

test("a disabled function is not found, except with the master key", async () => {
  expect(await status("/off")).toBe(404);
  expect(await (await call("/off", key("master-key"))).text()).toBe("ran");
});

test("the admin endpoints ask for the master key", async () => {
  for (const path of ["/admin/host/status", "/admin/host/ping", "/admin/functions"]) {
    expect(await status(path, key("host-key"))).toBe(401);
    expect(await status(path, key("master-key"))).toBe(200);
  }
});

test("the admin endpoints tell the state of the host and its functions", async () => {
  expect(await json("/admin/host/status", key("master-key"))).toMatchObject({ state: "Running" });
  const functions = await json("/admin/functions", key("master-key"));
  expect(functions).toContainEqual(
    expect.objectContaining({ name: "switchedOff", isDisabled: true }),
  );
  expect(await json("/admin/functions/WITHKEY", key("master-key"))).toMatchObject({
    name: "withKey",
    config: { bindings: [{ route: "with-key" }, { name: "$return" }] },
  });
  expect(await json("/admin/functions/withKey/status", key("master-key"))).toEqual({ errors: [] });
});

test("a function is run by hand through the admin endpoint, and the answer does not wait for it", async () => {
  const run = (name: string, body: string) =>
    status(`/admin/functions/${name}`, { ...key("master-key"), method: "POST", body });
  expect(await run("byHand", '{"input":""}')).toBe(202);
  expect(await run("unknown", '{"input":""}')).toBe(404);
  expect(await run("byHand", "not json")).toBe(400);
  const runs = await until("the run", async () => {
    const seen = (await json("/runs")) as unknown[];
    return seen.length > 0 && seen;
  });
  expect(runs).toEqual([
    { schedule: { adjustForDST: true }, scheduleStatus: null, isPastDue: false },
  ]);
});

test("a function is run by hand in the process", async () => {
  await host.runFunction("BYHAND");
  await expect(host.runFunction("throws")).rejects.toThrow("secret detail");
  await expect(host.runFunction("unknown")).rejects.toThrow('There is no function "unknown"');
});

test("a preflight is answered for allowed origins only", async () => {
  const preflight = (origin: string) =>
    call("/echo", {
      method: "OPTIONS",
      headers: {
        origin,
        "access-control-request-method": "PUT",
        "access-control-request-headers": "x-test",
      },
    });
  const allowed = await preflight("https://app.example.com");
  expect(allowed.status).toBe(204);
  expect(allowed.headers.get("access-control-allow-origin")).toBe("https://app.example.com");
  expect(allowed.headers.get("access-control-allow-methods")).toBe("PUT");
  expect(allowed.headers.get("access-control-allow-headers")).toBe("x-test");
  const refused = await preflight("https://other.example.com");
  expect([refused.status, refused.headers.get("access-control-allow-origin")]).toEqual([204, null]);
});

test("a path without a function at the root shows that the host is up", async () => {
  expect(await (await call("/")).text()).toContain("The Functions host is running.");
});

test("stop waits no longer than it is told for a function that never ends", async () => {
  const stuck = call("/stuck").catch(() => "cut");
  await until("the run", () => log.entries.some(({ functionName }) => functionName === "stuck"));
  await host.stop();
  expect(await stuck).toBe("cut");
  expect(log.entries.at(-1)?.message).toBe("1 run(s) did not end in time.");
});

interface RawRequest {
  readonly path: string;
  readonly method?: string;
  readonly headers?: Record<string, string>;
  /** Sent without a length. */
  readonly chunks?: readonly string[];
}

function rawRequest(options: RawRequest): Promise<{ status: number; body: string }> {
  const { path, method = "GET", headers = {}, chunks = [] } = options;
  return new Promise((resolve, reject) => {
    const { port } = host;
    const sent = httpRequest({ host: "127.0.0.1", port, path, method, headers }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text) => {
        body += text;
      });
      response.once("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    sent.once("error", reject);
    for (const chunk of chunks) sent.write(chunk);
    sent.end();
  });
}
