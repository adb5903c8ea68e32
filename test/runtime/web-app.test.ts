import { HttpRequest, InvocationContext } from "@azure/functions";
import { createRoute, z } from "@hono/zod-openapi";
import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { isGranted, ROLES } from "../../src/lib/kernel/api-keys.ts";
import { AppError, permanent, transient } from "../../src/lib/kernel/errors.ts";
import { createRoutes, json, needsRole, PUBLIC } from "../../src/lib/runtime/routes.http.ts";
import { createWebApp, HTTP_METHODS, mountWebApp } from "../../src/lib/runtime/web-app.http.ts";
import {
  type Answer,
  API_KEYS,
  SECRETS,
  type Send,
  sendDirect,
  sendMounted,
} from "../support/http-shell.ts";

const ORIGIN = "https://app.example.com";
const MIB = 1024 * 1024;

/** What a handler may throw, by the name in the path. */
const THROWN: Record<string, unknown> = {
  unknown: new TypeError("hunter2 is not a function", { cause: new Error("hunter2 cause") }),
  text: "hunter2",
  nothing: undefined,
  bug: new AppError("bug", "invariant_broken", { details: { what: "hunter2" } }),
  transient: transient(
    "redis_unavailable",
    { code: "hunter2", retryAfterMs: 2500 },
    new Error("hunter2"),
  ),
  patient: transient("database_unavailable"),
  refused: permanent("database_refused", { message: "hunter2" }),
  gone: permanent("usage_run_unknown"),
};

const Item = z.strictObject({
  name: z.string().min(1, "must not be empty"),
  tags: z
    .array(z.object({ key: z.string() }))
    .max(60)
    .optional(),
  any: z.unknown().optional(),
});
const returns = { 200: json("What was asked for.", z.unknown()) };
const jsonBody = { body: { required: true, content: { "application/json": { schema: Item } } } };

/** Routes of every kind that features have. */
function openShell(settings = { apiKeys: API_KEYS, corsOrigins: [ORIGIN] }) {
  const app = createWebApp({ settings: () => settings });
  const routes = createRoutes();
  const open = createRoute({ method: "get", path: "/open", security: PUBLIC, responses: returns });
  const thing = createRoute({
    method: "get",
    path: "/things/{id}",
    security: needsRole("viewer"),
    request: {
      params: z.object({ id: z.string().max(20) }),
      query: z.object({ limit: z.coerce.number().int().max(100).default(20) }),
    },
    responses: returns,
  });
  const add = createRoute({
    method: "post",
    path: "/things",
    security: needsRole("producer"),
    request: jsonBody,
    responses: returns,
  });
  const drop = createRoute({
    method: "delete",
    path: "/things/{id}",
    security: needsRole("admin"),
    request: { params: z.object({ id: z.string() }) },
    responses: returns,
  });
  const throws = createRoute({
    method: "post",
    path: "/throw/{what}",
    security: PUBLIC,
    request: { params: z.object({ what: z.string() }) },
    responses: returns,
  });
  const hangs = createRoute({ method: "get", path: "/hang", security: PUBLIC, responses: returns });
  routes.openapi(open, (c) => c.json({ open: true }, 200));
  routes.openapi(thing, (c) =>
    c.json({ ...c.req.valid("param"), ...c.req.valid("query"), caller: c.var.caller }, 200),
  );
  routes.openapi(add, (c) => c.json({ added: c.req.valid("json").name }, 200));
  routes.openapi(drop, (c) => c.json({ dropped: c.req.valid("param").id }, 200));
  routes.openapi(throws, (c) => Promise.reject(THROWN[c.req.valid("param").what]));
  routes.openapi(hangs, (c) => {
    const { signal } = c.env.run;
    return new Promise((_resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
    });
  });
  for (const role of ROLES) {
    const route = createRoute({
      method: "get",
      path: `/for-${role}`,
      security: needsRole(role),
      responses: returns,
    });
    routes.openapi(route, (c) => c.json({ role }, 200));
  }
  app.route("/", routes);
  return app;
}

const key = (role: keyof typeof SECRETS) => ({ "x-api-key": SECRETS[role] });
const asProducer = { ...key("producer"), "content-type": "application/json" };

function expectProblem(answer: Answer, status: number, code: string): void {
  expect(answer.json()).toMatchObject({
    status,
    code,
    type: `urn:worker-service:error:${code}`,
    title: expect.any(String),
    runId: expect.any(String),
  });
  expect(answer.status).toBe(status);
  expect(answer.headers.get("content-type")).toBe("application/problem+json");
}

function expectSecureHeaders({ headers }: Answer): void {
  expect(headers.get("x-content-type-options")).toBe("nosniff");
  expect(headers.get("x-frame-options")).toBe("SAMEORIGIN");
  expect(headers.get("referrer-policy")).toBe("no-referrer");
  expect(headers.get("strict-transport-security")).toMatch(/max-age=\d{7,}/);
  expect(headers.get("content-security-policy")).toMatch(/^default-src 'none'/);
  expect(headers.get("cache-control")).toBe("no-store");
  expect(headers.has("x-powered-by")).toBe(false);
}

describe.each([
  ["through app.fetch", sendDirect],
  ["through the handler of the host", sendMounted],
] as const)("%s", (_name, open) => {
  const send: Send = open(openShell());

  describe("a path", () => {
    test.each(["/", "/nothing", "/things/1/2", "/open/1", "/OPEN", "//open", "/.env", "/throw"])(
      "%s that no route has is a 404, with and without a key",
      async (path) => {
        expectProblem(await send(path), 404, "route_unknown");
        expectProblem(await send(path, { headers: key("admin") }), 404, "route_unknown");
      },
    );

    test("is the same with a slash at its end", async () => {
      expect((await send("/open/")).status).toBe(200);
      expect((await send("/things/7/")).status).toBe(401);
      expect((await send("/things/7/", { headers: key("viewer") })).json()).toMatchObject({
        id: "7",
      });
    });
  });

  describe("a method", () => {
    test.each([
      ["PUT", "/things", "POST"],
      ["POST", "/things/1", "GET, HEAD, DELETE"],
      ["HEAD", "/things", "POST"],
      ["OPTIONS", "/open", "GET, HEAD"],
    ])(
      "%s that %s does not know is a 405 that names those it does",
      async (method, path, allow) => {
        const answer = await send(path, { method });
        expect(answer.status).toBe(405);
        expect(answer.headers.get("allow")).toBe(allow);
        if (method !== "HEAD") expectProblem(answer, 405, "method_not_allowed");
      },
    );

    test("HEAD is GET without the body", async () => {
      const [head, get] = [await send("/open", { method: "HEAD" }), await send("/open")];
      expect([head.status, head.text]).toEqual([200, ""]);
      expect(head.headers.get("content-type")).toBe(get.headers.get("content-type"));
      expect((await send("/for-viewer", { method: "HEAD" })).status).toBe(401);
      const headers = key("viewer");
      expect((await send("/for-viewer", { method: "HEAD", headers })).status).toBe(200);
    });
  });

  describe("a key", () => {
    test.each(ROLES.flatMap((has) => ROLES.map((needs) => ({ has, needs }))))(
      "of the role $has opens what $needs may do, or not, as the roles say",
      async ({ has, needs }) => {
        const answer = await send(`/for-${needs}`, { headers: key(has) });
        if (isGranted(has, needs)) expect(answer.json()).toEqual({ role: needs });
        else {
          expectProblem(answer, 403, "role_missing");
          expect(answer.json()["detail"]).toBe(`this needs the role ${needs}`);
        }
      },
    );

    test.each(ROLES)("is needed where the role %s is", async (role) => {
      const answer = await send(`/for-${role}`);
      expectProblem(answer, 401, "credentials_missing");
      expect(answer.headers.get("www-authenticate")).toBe('Bearer realm="worker-service"');
    });

    test.each<[string, Record<string, string>]>([
      ["an unknown one", { "x-api-key": "wsk_other" }],
      ["an empty one", { "x-api-key": "" }],
      ["its hash", { "x-api-key": API_KEYS[3]?.sha256 ?? "" }],
      ["a cut one", { "x-api-key": SECRETS.admin.slice(0, -1) }],
      ["a very long one", { "x-api-key": "k".repeat(10_000) }],
      ["one of another scheme", { authorization: `Basic ${SECRETS.admin}` }],
      ["a bearer without a token", { authorization: "Bearer" }],
      ["two in one header", { "x-api-key": `${SECRETS.admin}, ${SECRETS.admin}` }],
      [
        "a bad one beside a good bearer",
        { "x-api-key": "wsk_other", authorization: `Bearer ${SECRETS.admin}` },
      ],
      ["a function key", { "x-functions-key": SECRETS.admin }],
      ["one in the query only", {}],
    ])("that is %s is a 401", async (_kind, headers) => {
      expectProblem(
        await send(`/for-admin?code=${SECRETS.admin}`, { headers }),
        401,
        "credentials_missing",
      );
    });

    test.each(["Bearer", "bearer", "BEARER"])("is taken as a token of %s too", async (scheme) => {
      const headers = { authorization: `${scheme} ${SECRETS.admin}` };
      expect((await send("/for-admin", { headers })).status).toBe(200);
    });

    test("is known to the route by its name and role, and to the log by its name", async () => {
      const answer = await send("/things/7", { headers: key("viewer") });
      expect(answer.json()["caller"]).toEqual({ name: "the-viewer", role: "viewer" });
      expect(answer.lines).toHaveLength(1);
      expect(answer.lines[0]).toMatchObject({
        level: "information",
        fields: { event: "run_done", route: "GET /things/{id}", caller: "the-viewer" },
      });
      expect(JSON.stringify(answer.lines)).not.toContain(SECRETS.viewer);
    });
  });

  describe("a body", () => {
    const post = (body: string | Uint8Array, headers: Record<string, string> = asProducer) =>
      send("/things", { method: "POST", headers, body });

    test("of JSON is read", async () => {
      expect((await post('{"name":"n"}')).json()).toEqual({ added: "n" });
    });

    test.each([
      "application/json",
      "application/json; charset=utf-8",
      "Application/JSON",
      "application/vnd.v1+json",
      "application/json;",
      'application/json; charset="utf-8"; a',
    ])("of the type %s is read", async (type) => {
      expect((await post('{"name":"n"}', { ...asProducer, "content-type": type })).status).toBe(
        200,
      );
    });

    test.each([
      "text/plain",
      "application/x-www-form-urlencoded",
      "application/jsonp",
      "application/json-seq",
      "text/json",
      "",
    ])("of the type %j is a 415", async (type) => {
      const answer = await post('{"name":"n"}', { ...key("producer"), "content-type": type });
      expectProblem(answer, 415, "media_type_unsupported");
    });

    test.each(["{", "", "{'name':1}", '{"name":"n"} x', "\u0000"])(
      "%j is a 400 that says it is not JSON",
      async (text) => {
        const answer = await post(text);
        if (text === "") expectProblem(answer, 400, "body_not_json");
        else expectProblem(answer, 400, "body_not_json");
      },
    );

    test("that is empty and of another type is a 415", async () => {
      const headers = { ...key("producer"), "content-type": "text/plain" };
      const answer = await send("/things", { method: "POST", headers });
      expectProblem(answer, 415, "media_type_unsupported");
    });

    test("that is absent is a 400 that names the missing fields", async () => {
      const answer = await send("/things", { method: "POST", headers: key("producer") });
      expectProblem(answer, 400, "request_invalid");
      expect(answer.json()["errors"]).toMatchObject([{ field: "name" }]);
    });

    test("with faults is a 400 that names every field and no value", async () => {
      const answer = await post('{"name":"","tags":[{"key":"k"},{"key":7}],"hunter3":"hunter2"}');
      expectProblem(answer, 400, "request_invalid");
      expect(answer.json()["errors"]).toEqual([
        { field: "name", reason: "must not be empty" },
        { field: "tags[1].key", reason: expect.stringContaining("string") },
        { field: "hunter3", reason: "is not known" },
      ]);
      expect(answer.json()["detail"]).toMatch(/^name: must not be empty; tags\[1\]\.key: /);
      expect(answer.text).not.toContain("hunter2");
    });

    test("with very many faults names the first fifty", async () => {
      const fields = Array.from({ length: 3000 }, (_, index) => [`x${index}`, 1]);
      const answer = await post(JSON.stringify({ name: "n", ...Object.fromEntries(fields) }));
      expect(answer.json()["errors"]).toHaveLength(50);
      expect(answer.json()["detail"]).toMatch(/; and 45 more$/);
    });

    test("with very many bad items names the first fifty", async () => {
      const tags = Array.from({ length: 60 }, () => ({ key: 7 }));
      const answer = await post(JSON.stringify({ name: "n", tags }));
      expect(answer.json()["errors"]).toHaveLength(50);
      expect(answer.text.length).toBeLessThan(10_000);
    });

    test("with a field name of any length has an answer of its own size", async () => {
      const answer = await post(JSON.stringify({ name: "n", ["x".repeat(500_000)]: 1 }));
      expectProblem(answer, 400, "request_invalid");
      expect(answer.text.length).toBeLessThan(2000);
    });

    test.each([
      [MIB, 200],
      [MIB + 1, 413],
      [3 * MIB, 413],
    ])("of %i bytes is a %i", async (size, status) => {
      const frame = '{"name":""}'.length;
      const answer = await post(`{"name":"${"x".repeat(size - frame)}"}`);
      expect(answer.status).toBe(status);
      if (status === 413) expectProblem(answer, 413, "body_too_large");
    });

    test("that is too large is judged after the key", async () => {
      const answer = await post("x".repeat(MIB + 1), { "content-type": "application/json" });
      expectProblem(answer, 401, "credentials_missing");
    });

    test.each(["[", '{"any":'])(
      "that nests %j without end is a 400, not a lack of stack",
      async (open) => {
        const close = open === "[" ? "]" : "}";
        const deep = open.repeat(100_000) + (open === "[" ? "" : "1") + close.repeat(100_000);
        const answer = await post(`{"name":"n","any":${deep}}`);
        expectProblem(answer, 400, "request_invalid");
        expect(answer.json()["errors"]).toEqual([
          { field: "body", reason: "nests more than 32 levels deep" },
        ]);
      },
    );

    test("may nest 32 levels and hold any brackets in its texts", async () => {
      const deep = `${"[".repeat(31)}"${'[{\\"'.repeat(100)}"${"]".repeat(31)}`;
      expect((await post(`{"name":"n","any":${deep}}`)).status).toBe(200);
    });
  });

  describe("a query or a part of the path", () => {
    test.each([
      ["/things/7?limit=many", "limit"],
      ["/things/7?limit=101", "limit"],
      ["/things/7?limit=1&limit=2", "limit"],
      [`/things/${"x".repeat(21)}`, "id"],
    ])("%s is a 400 that names %s", async (path, field) => {
      const answer = await send(path, { headers: key("viewer") });
      expectProblem(answer, 400, "request_invalid");
      expect(answer.json()["errors"]).toEqual([{ field, reason: expect.any(String) }]);
    });

    test("is decoded once", async () => {
      const headers = key("viewer");
      expect((await send("/things/a%2Fb%20%2541", { headers })).json()["id"]).toBe("a/b %41");
      expect((await send("/things/%zz", { headers })).json()["id"]).toBe("%zz");
    });
  });

  describe("a failure", () => {
    const fail = (what: string) => send(`/throw/${what}`, { method: "POST" });

    test.each([
      ["unknown", 503, "unclassified", "5"],
      ["text", 503, "unclassified", "5"],
      ["nothing", 503, "unclassified", "5"],
      ["transient", 503, "redis_unavailable", "3"],
      ["patient", 503, "database_unavailable", "5"],
      ["bug", 500, "invariant_broken", null],
      ["refused", 502, "database_refused", null],
      ["gone", 404, "usage_run_unknown", null],
    ])(
      "of the kind %s is a %i %s and says when to come back: %s",
      async (what, status, code, retryAfter) => {
        const answer = await fail(what);
        expectProblem(answer, status, code);
        expect(answer.headers.get("retry-after")).toBe(retryAfter);
        expect(answer.lines).toHaveLength(1);
        expect(answer.lines[0]).toMatchObject({
          level: status < 500 ? "warning" : "error",
          fields: { event: "run_failed", code, route: "POST /throw/{what}" },
        });
        expect(answer.json()["runId"]).toBe(answer.lines[0]?.fields["runId"]);
      },
    );

    test.each(Object.keys(THROWN))(
      "of the kind %s shows neither stack nor cause nor details",
      async (what) => {
        const { text } = await fail(what);
        expect(text).not.toMatch(/hunter2|stack|cause|node:|\.ts|at \w/);
      },
    );
  });

  describe("every answer", () => {
    test.each<[string, Parameters<Send>]>([
      ["200", ["/open"]],
      ["400", ["/things", { method: "POST", headers: asProducer, body: "{" }]],
      ["401", ["/things/1"]],
      ["403", ["/for-admin", { headers: key("viewer") }]],
      ["404", ["/nothing"]],
      ["405", ["/open", { method: "DELETE" }]],
      ["413", ["/things", { method: "POST", headers: asProducer, body: "x".repeat(MIB + 1) }]],
      ["415", ["/things", { method: "POST", headers: key("producer"), body: "x" }]],
      ["500", ["/throw/bug", { method: "POST" }]],
      ["503", ["/throw/text", { method: "POST" }]],
      [
        "204",
        [
          "/things",
          {
            method: "OPTIONS",
            headers: { origin: ORIGIN, "access-control-request-method": "POST" },
          },
        ],
      ],
    ])("%s has the secure headers", async (status, request) => {
      const answer = await send(...request);
      expect(answer.status).toBe(Number(status));
      expectSecureHeaders(answer);
    });
  });

  describe("CORS", () => {
    const preflight = (path: string, origin: string) =>
      send(path, {
        method: "OPTIONS",
        headers: {
          origin,
          "access-control-request-method": "POST",
          "access-control-request-headers": "x-api-key,content-type",
        },
      });
    const corsHeaders = ({ headers }: Answer) =>
      [...headers.keys()].filter((name) => name.startsWith("access-control-"));

    test.each(["/things", "/things/7", "/open"])(
      "lets a listed origin ask before %s",
      async (path) => {
        const answer = await preflight(path, ORIGIN);
        expect([answer.status, answer.text]).toEqual([204, ""]);
        expect(answer.headers.get("access-control-allow-origin")).toBe(ORIGIN);
        expect(answer.headers.get("access-control-allow-methods")).toBe(
          "GET,HEAD,POST,PUT,PATCH,DELETE",
        );
        expect(answer.headers.get("access-control-allow-headers")).toBe(
          "authorization,content-type,x-api-key",
        );
        expect(answer.headers.get("access-control-max-age")).toBe("600");
        expect(answer.headers.get("vary")).toMatch(/Origin/);
        expect(answer.headers.has("access-control-allow-credentials")).toBe(false);
      },
    );

    test.each([
      "https://evil.example.com",
      "http://app.example.com",
      "https://app.example.com:8443",
      "https://app.example.com.evil.com",
      "null",
      "*",
    ])("gives the origin %s nothing", async (origin) => {
      const asked = await preflight("/things", origin);
      expect(asked.status).toBe(405);
      expect(corsHeaders(asked)).toEqual([]);
      const got = await send("/open", { headers: { origin } });
      expect(got.status).toBe(200);
      expect(corsHeaders(got)).toEqual([]);
    });

    test.each<[number, Parameters<Send>[0], NonNullable<Parameters<Send>[1]>]>([
      [200, "/open", {}],
      [401, "/things/7", {}],
      [404, "/nothing", {}],
      [400, "/things", { method: "POST", headers: asProducer, body: "{" }],
      [503, "/throw/unknown", { method: "POST" }],
    ])("lets a listed origin read a %i", async (status, path, sent) => {
      const answer = await send(path, { ...sent, headers: { ...sent.headers, origin: ORIGIN } });
      expect(answer.status).toBe(status);
      expect(answer.headers.get("access-control-allow-origin")).toBe(ORIGIN);
      expect(answer.headers.get("access-control-expose-headers")).toBe("retry-after");
      expect(answer.headers.get("vary")).toMatch(/Origin/);
    });

    test("takes OPTIONS that asks nothing for a method like any other", async () => {
      const answer = await send("/things", { method: "OPTIONS", headers: { origin: ORIGIN } });
      expectProblem(answer, 405, "method_not_allowed");
    });

    test("is off for everybody when no origin is listed", async () => {
      const closed = open(openShell({ apiKeys: API_KEYS, corsOrigins: [] }));
      for (const origin of [ORIGIN, ""]) {
        const headers = { origin, "access-control-request-method": "GET" };
        expect(corsHeaders(await closed("/open", { method: "OPTIONS", headers }))).toEqual([]);
        expect(corsHeaders(await closed("/open", { headers }))).toEqual([]);
      }
    });
  });

  test("no method, path, headers and body make the shell itself fail", async () => {
    const segment = fc.oneof(
      fc.constantFrom(
        "open",
        "things",
        "for-admin",
        "hang2",
        "..",
        ".",
        "%2e%2e",
        "%00",
        "%zz",
        "%ff",
        "%F0%9F%98%80",
        "ñ",
        "{id}",
        "*",
        ":id",
        "__proto__",
        "constructor",
      ),
      fc.webSegment(),
      fc
        .string({ unit: "grapheme", maxLength: 30 })
        .map((text) => encodeURIComponent(text.toWellFormed())),
    );
    const path = fc.array(segment, { maxLength: 5 }).map((parts) => `/${parts.join("/")}`);
    const query = fc.oneof(
      fc.constant(""),
      fc.webQueryParameters().map((text) => `?${text}`),
    );
    const value = fc.stringMatching(/^[!-~]([ -~]{0,60}[!-~])?$/);
    const name = fc.oneof(
      fc.constantFrom(
        "x-api-key",
        "authorization",
        "content-type",
        "content-length",
        "transfer-encoding",
        "origin",
        "access-control-request-method",
        "access-control-request-headers",
        "host",
        "expect",
        "accept",
        "range",
      ),
      fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/),
    );
    const known = fc.constantFrom(
      ...Object.values(SECRETS),
      "application/json",
      "text/plain",
      ORIGIN,
      "chunked",
      "-1",
      "1e9",
      "99999999999",
    );
    const headers = fc.dictionary(name, fc.oneof(value, known), { maxKeys: 6 });
    const body = fc.option(fc.oneof(fc.json(), fc.string(), fc.uint8Array({ maxLength: 2000 })), {
      nil: undefined,
    });
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...HTTP_METHODS),
        path,
        query,
        headers,
        body,
        async (method, where, asked, given, sent) => {
          const hasBody = method !== "GET" && method !== "HEAD" && sent !== undefined;
          const request = { method, headers: given, ...(hasBody ? { body: sent } : {}) };
          const answer = await send(`${where}${asked}`, request);
          expect(answer.status).toBeLessThan(500);
          expect(answer.lines).toHaveLength(1);
          expectSecureHeaders(answer);
        },
      ),
      { numRuns: 400 },
    );
  });
});

describe("the handler of the host", () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  test("takes the length of a body from the body, whatever the header says", async () => {
    const send = sendMounted(openShell());
    for (const length of ["1", "0", "-1", "many", "99999999"]) {
      const headers = { ...asProducer, "content-length": length };
      const large = await send("/things", { method: "POST", headers, body: "x".repeat(MIB + 1) });
      expectProblem(large, 413, "body_too_large");
      const small = await send("/things", { method: "POST", headers, body: '{"name":"n"}' });
      expect(small.status).toBe(200);
    }
  });

  test("drops a body on GET, as the host does", async () => {
    const headers = { "content-length": "5", "content-type": "text/plain" };
    expect((await sendMounted(openShell())("/open", { headers })).status).toBe(200);
  });

  test("notes the status of what it answered", async () => {
    const { lines } = await sendMounted(openShell())("/open");
    expect(lines[0]?.fields).toMatchObject({ event: "run_done", status: 200, route: "GET /open" });
  });

  test("answers a problem when the request cannot be read", async () => {
    const request = new HttpRequest({
      method: "POST",
      url: "http://worker.test/things",
      body: { string: "{}" },
    });
    await request.text(); // a body can be read once
    const logged: string[] = [];
    const context = new InvocationContext({
      functionName: "f",
      logHandler: (_level, ...args) => void logged.push(args.join(" ")),
    });
    const response = (await mountWebApp(openShell())(request, context)) as {
      status: number;
      body: Uint8Array;
    };
    expect(response.status).toBe(503);
    expect(JSON.parse(Buffer.from(response.body).toString())).toMatchObject({
      code: "unclassified",
      runId: context.invocationId,
    });
    expect(logged).toHaveLength(1);
  });

  test("ends a request after one minute, long before the front end of the platform does", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const answer = sendMounted(openShell())("/hang");
    await vi.advanceTimersByTimeAsync(59_999);
    const state = await Promise.race([answer, Promise.resolve("waiting")]);
    expect(state).toBe("waiting");
    await vi.advanceTimersByTimeAsync(1);
    expectProblem(await answer, 503, "deadline_exceeded");
  });

  test("reads keys and origins with every request, because the app is built before the settings are known", async () => {
    const settings = { apiKeys: [] as typeof API_KEYS, corsOrigins: [] as string[] };
    const send = sendMounted(openShell(settings));
    expect((await send("/for-admin", { headers: key("admin") })).status).toBe(401);
    settings.apiKeys = API_KEYS;
    expect((await send("/for-admin", { headers: key("admin") })).status).toBe(200);
  });
});
