import { createRoute, OpenAPIHono, z } from "@hono/zod-openapi";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AppError } from "../../src/lib/kernel/errors.ts";
import { matchRoute, routeTable } from "../../src/lib/runtime/route-table.http.ts";
import {
  createRoutes,
  json,
  needsRole,
  PUBLIC,
  type WebEnv,
} from "../../src/lib/runtime/routes.http.ts";
import { createWebApp } from "../../src/lib/runtime/web-app.http.ts";
import { API_KEYS, SECRETS, sendDirect } from "../support/http-shell.ts";

/** Parameters compete with literals, literals hold characters that mean something in a pattern. */
const PATHS = [
  "/a/{x}",
  "/a/b",
  "/a/b/c",
  "/a/{x}/c",
  "/a/{x}/{y}",
  "/a-b",
  "/a.b/{y}",
  "/a+(b)",
  "/c/d/{z}",
  "/c/{z}/d",
] as const;
const responses = { 200: json("The route that answers.", z.string()) };

function openApp() {
  const app = createWebApp({ settings: () => ({ apiKeys: API_KEYS, corsOrigins: [] }) });
  const routes = createRoutes();
  for (const path of PATHS)
    for (const method of ["get", "post"] as const) {
      const route = createRoute({ method, path, security: PUBLIC, responses });
      routes.openapi(route, (c) => c.json(`${method.toUpperCase()} ${path}`, 200));
    }
  app.route("/", routes);
  return app;
}

describe("routeTable", () => {
  test("lists method, path, role and summary of every route, in their order", () => {
    const routes = createRoutes();
    const base = { responses, summary: "What it does" };
    routes.openapi(createRoute({ ...base, method: "get", path: "/x", security: PUBLIC }), (c) =>
      c.json("", 200),
    );
    routes.openapi(
      createRoute({ ...base, method: "delete", path: "/x/{id}", security: needsRole("admin") }),
      (c) => c.json("", 200),
    );
    expect(routeTable(routes)).toMatchObject([
      { method: "GET", path: "/x", role: undefined, summary: "What it does" },
      { method: "DELETE", path: "/x/{id}", role: "admin" },
    ]);
  });

  test("fails for a route that declares no role, and names it", () => {
    const routes = createRoutes();
    routes.openapi(createRoute({ method: "get", path: "/forgotten", responses }), (c) =>
      c.json("", 200),
    );
    expect(() => routeTable(routes)).toThrow(
      expect.objectContaining({
        kind: "bug",
        details: { what: "route get /forgotten declares no role" },
      }),
    );
  });

  test.each([[[{ apiKey: [] }]], [[{ apiKey: ["root"] }]], [[{ other: ["viewer"] }]], [[{}]]])(
    "fails for a route with the security %j, which is neither public nor a role",
    (security) => {
      const routes = createRoutes();
      routes.openapi(createRoute({ method: "get", path: "/odd", security, responses }), (c) =>
        c.json("", 200),
      );
      expect(() => routeTable(routes)).toThrow(AppError);
    },
  );

  test("keeps a forgotten role from opening the whole app", async () => {
    const app = createWebApp({ settings: () => ({ apiKeys: API_KEYS, corsOrigins: [] }) });
    const routes = createRoutes();
    routes.openapi(createRoute({ method: "get", path: "/forgotten", responses }), (c) =>
      c.json("open", 200),
    );
    app.route("/", routes);
    const answer = await sendDirect(app)("/forgotten", { headers: { "x-api-key": SECRETS.admin } });
    expect([answer.status, answer.json()["code"]]).toEqual([500, "invariant_broken"]);
  });

  test("does not know a route that was registered without a definition, so that nobody reaches it", async () => {
    const app = createWebApp({ settings: () => ({ apiKeys: API_KEYS, corsOrigins: [] }) });
    const routes = new OpenAPIHono<WebEnv>();
    routes.get("/hidden", (c) => c.json("open", 200));
    app.route("/", routes);
    const answer = await sendDirect(app)("/hidden", { headers: { "x-api-key": SECRETS.admin } });
    expect(answer.status).toBe(404);
  });
});

describe("matchRoute", () => {
  const rows = routeTable(openApp());

  test.each([
    ["GET", "/a/b", "/a/{x}"],
    ["HEAD", "/a/b", "/a/{x}"],
    ["GET", "/a/b/c", "/a/b/c"],
    ["GET", "/a/x/c", "/a/{x}/c"],
    ["GET", "/a.b/1", "/a.b/{y}"],
    ["GET", "/a+(b)", "/a+(b)"],
  ])("%s %s finds %s", (method, path, expected) => {
    expect(matchRoute(rows, method, path)).toMatchObject({
      kind: "found",
      row: { path: expected },
    });
  });

  test.each([
    "/",
    "/a",
    "/a/",
    "/a/b/",
    "/a//",
    "/aXb/1",
    "/a/b/c/d",
    "x/a-b",
    "/a-b/x",
    "/A-B",
    "",
  ])("finds nothing at %j", (path) => {
    expect(matchRoute(rows, "GET", path)).toEqual({ kind: "unknown" });
  });

  test("names each method once, and HEAD where there is GET", () => {
    expect(matchRoute(rows, "PUT", "/a/b")).toEqual({ kind: "method", allow: "GET, HEAD, POST" });
  });
});

test("the route whose role is checked is the route that answers, whatever the path", async () => {
  const send = sendDirect(openApp());
  const part = fc.constantFrom(
    "a",
    "b",
    "c",
    "d",
    "a-b",
    "a.b",
    "a+(b)",
    "%62",
    "%2F",
    "b%2Fc",
    "%0A",
    "%25",
    "",
    ".",
    "ñ",
    "%C3%B1",
    "%zz",
    "x y",
  );
  const path = fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => `/${parts.join("/")}`);
  await fc.assert(
    fc.asyncProperty(fc.constantFrom("GET", "POST"), path, async (method, where) => {
      const { status, lines, text } = await send(where, { method });
      const checked = lines[0]?.fields["route"];
      if (checked === undefined) expect(status).toBe(404);
      else expect([status, JSON.parse(text)]).toEqual([200, checked]);
    }),
    { numRuns: 500 },
  );
});
