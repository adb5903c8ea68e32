import { HttpRequest, InvocationContext } from "@azure/functions";
import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { isGranted, ROLES } from "../../src/lib/kernel/api-keys.ts";
import { HTTP_METHODS, mountWebApp } from "../../src/lib/runtime/web-app.http.ts";
import { API_KEYS, SECRETS, type Send, sendDirect, sendMounted } from "../support/http-shell.ts";
import {
  asProducer,
  expectProblem,
  expectSecureHeaders,
  key,
  MIB,
  ORIGIN,
  openShell,
  THROWN,
} from "../support/toy-shell.ts";

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
