import { beforeAll, describe, expect, test } from "vitest";
import { graphWebhookRoutes } from "../../src/lib/graph/graph-webhook.http.ts";
import { ROLES } from "../../src/lib/kernel/api-keys.ts";
import { probeRoutes } from "../../src/lib/ops/probes.http.ts";
import { routeTable } from "../../src/lib/runtime/route-table.http.ts";
import { type Answer, SECRETS, type Send, sendToHandler, sha256 } from "../support/http-shell.ts";
import { CLOSED_PORTS, httpHandlerOf, loadApp } from "../support/loaded-app.ts";
import { rowName, tableRows } from "../support/page-rules.ts";
import { readSource } from "../support/source-files.ts";

/**
 * What answers without credentials, reviewed by hand, with the status that it has when no backend is there. Everything
 * else must ask for a key.
 */
const PUBLIC_ROUTES: Record<string, Record<string, number>> = {
  healthProbes: { "GET /health": 503, "GET /healthz": 200, "GET /readyz": 503 },
  graphWebhook: { "POST /listen": 503, "POST /listen/lifecycle": 503 },
  managementApi: { "GET /docs": 200, "GET /openapi.json": 200 },
};
const HTTP_FUNCTIONS = Object.keys(PUBLIC_ROUTES);

const ENV = {
  ...CLOSED_PORTS,
  API_KEYS: ROLES.map((role) => `the-${role}:${role}:sha256:${sha256(SECRETS[role])}`).join(","),
};

const unused = (): never => {
  throw new Error("the routes are only listed");
};

let send: Record<string, Send>;
/** `METHOD /path` of every route of each function. */
let routes: Record<string, string[]>;

beforeAll(async () => {
  const core = await loadApp(ENV);
  send = Object.fromEntries(
    HTTP_FUNCTIONS.map((name) => [name, sendToHandler(httpHandlerOf(core, name))]),
  );
  const namesOf = (app: Parameters<typeof routeTable>[0]) =>
    routeTable(app).map(({ method, path }) => `${method} ${path}`);
  routes = {
    healthProbes: namesOf(probeRoutes(unused)),
    graphWebhook: namesOf(graphWebhookRoutes()),
    managementApi: await documentedRoutes(),
  };
});

async function documentedRoutes(): Promise<string[]> {
  const answer = await send["managementApi"]?.("/openapi.json");
  expect(answer?.status, JSON.stringify(answer?.lines)).toBe(200);
  const paths = answer?.json()["paths"] as Record<string, Record<string, unknown>>;
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
}

/** Asks one route of one function without credentials. */
function ask(name: string, route: string, headers: Record<string, string> = {}): Promise<Answer> {
  const [method = "", path = ""] = route.split(" ");
  const filled = path.replaceAll(/\{\w+\}/g, "1");
  const body = method === "GET" ? {} : { body: "{}" };
  const all = { "content-type": "application/json", ...headers };
  const sender = send[name];
  if (sender === undefined) throw new Error(`no HTTP function is called ${name}`);
  return sender(filled, { method, headers: all, ...body });
}

test("the HTTP functions are those that this file reviews", async () => {
  const core = await loadApp(ENV);
  const names = core
    .registrations()
    .filter(({ metadata }) =>
      Object.values(metadata.bindings).some(({ type }) => type === "httpTrigger"),
    )
    .map(({ id }) => id);
  expect(names.sort()).toEqual([...HTTP_FUNCTIONS].sort());
});

describe.each(HTTP_FUNCTIONS)("%s", (name) => {
  test("answers nothing outside the public list without credentials", async () => {
    const own = routes[name] ?? [];
    expect(own.length).toBeGreaterThan(1);
    const answers = await Promise.all(
      own.map(async (route) => [route, await ask(name, route)] as const),
    );
    const open = answers.filter(([, { status }]) => status !== 401);
    expect(Object.fromEntries(open.map(([route, { status }]) => [route, status]))).toEqual(
      PUBLIC_ROUTES[name],
    );
  });

  test("does not take an empty, a made-up or a stolen-looking key for one", async () => {
    const closed = (routes[name] ?? []).filter((route) => !(route in (PUBLIC_ROUTES[name] ?? {})));
    for (const route of closed)
      for (const headers of [
        { "x-api-key": "" },
        { "x-api-key": "admin" },
        { authorization: "Bearer eyJ.x.y" },
      ]) {
        expect((await ask(name, route, headers)).status, route).toBe(401);
      }
  });

  test("answers the routes of the others with a 404", async () => {
    const others = HTTP_FUNCTIONS.filter((other) => other !== name).flatMap(
      (other) => routes[other] ?? [],
    );
    for (const route of others) {
      const answer = await ask(name, route);
      expect([answer.status, answer.json()["code"]], route).toEqual([404, "route_unknown"]);
    }
  });
});

test("no route is hidden behind one that comes before it", () => {
  for (const own of Object.values(routes)) {
    for (const route of own) {
      const filled = route.replaceAll(/\{\w+\}/g, "1");
      const first = own.find((other) => patternOf(other).test(filled));
      expect(first).toBe(route);
    }
  }
});

const patternOf = (route: string): RegExp =>
  new RegExp(`^${route.replaceAll(".", "\\.").replaceAll(/\{\w+\}/g, "[^/]+")}$`);

test("every route stands in the reference with the role that it needs, and no other does", async () => {
  const rows = tableRows(readSource("docs/reference/http-api.md") ?? "").flatMap((row) => {
    const name = rowName(row) ?? "";
    return / \//.test(name) ? [[name, row[1]] as const] : [];
  });
  const answers = Object.entries(routes).flatMap(([name, own]) =>
    own.map(async (route) => [route, await neededRole(name, route)] as const),
  );
  expect(Object.fromEntries(rows)).toEqual(Object.fromEntries(await Promise.all(answers)));
  expect(rows).toHaveLength(answers.length);
});

/** The first role, from the weakest on, that the service itself does not refuse. */
async function neededRole(name: string, route: string): Promise<string> {
  if (route in (PUBLIC_ROUTES[name] ?? {})) return "anybody";
  for (const role of ROLES) {
    const { status } = await ask(name, route, { "x-api-key": SECRETS[role] });
    if (status !== 403) return role;
  }
  return "nobody";
}
