import { expect, test } from "vitest";
import type { Registration } from "../../../local/functions-host/core-module.ts";
import type { RawBinding } from "../../../local/functions-host/core-types.ts";
import { hostFunctions, isTriggeredBy } from "../../../local/functions-host/hosted-function.ts";
import { buildRoutes, findRoute } from "../../../local/functions-host/routes.ts";

const registration = (name: string, trigger: object, ...others: RawBinding[]): Registration => {
  const bindings = Object.fromEntries(others.map((binding, index) => [`other${index}`, binding]));
  const own = { direction: "in", ...trigger } as RawBinding;
  return {
    id: name,
    metadata: { name, bindings: { trigger: own, ...bindings } },
    callback: () => {},
  };
};

const http = (name: string, options: object = {}) =>
  registration(name, { type: "httpTrigger", methods: ["GET", "POST"], ...options });
const timer = (name: string, schedule: string) =>
  registration(name, { type: "timerTrigger", schedule });
const queue = (name: string, queueName: string) =>
  registration(name, { type: "queueTrigger", queueName, connection: "" });

const host = (registrations: readonly Registration[], env: Record<string, string> = {}) =>
  hostFunctions(registrations, undefined, env);

test("functions are ordered by name, whatever the case", () => {
  const names = host([http("b_x"), http("C"), http("a"), http("Bx")]).map(({ name }) => name);
  expect(names).toEqual(["a", "Bx", "b_x", "C"]);
});

test("a list in host.json leaves only its functions", () => {
  const functions = hostFunctions([http("a"), http("Bee")], new Set(["bee"]), {});
  expect(functions.map(({ name }) => name)).toEqual(["Bee"]);
});

test("settings are filled in anywhere in a binding, whatever their case", () => {
  const [fn] = host([queue("q", "orders-%Stage%")], { STAGE: "Blue" });
  expect(fn?.trigger).toEqual({ kind: "queue", queueName: "orders-blue", connection: "Storage" });
  const [nested] = host([timer("t", "0 0 2 * * %A:B%")], { A__B: "1" });
  expect(nested?.bindings[0]).toMatchObject({ schedule: "0 0 2 * * 1" });
});

test("a function can be disabled by either spelling of the setting", () => {
  const disabled = (env: Record<string, string>) => host([http("fn")], env)[0]?.isDisabled;
  expect(disabled({ "AzureWebJobs.fn.Disabled": "true" })).toBe(true);
  expect(disabled({ AzureWebJobs_fn_Disabled: "1" })).toBe(true);
  expect(disabled({ "azurewebjobs.FN.disabled": "TRUE" })).toBe(true);
  expect(disabled({ "AzureWebJobs.fn.Disabled": "false" })).toBe(false);
  expect(disabled({})).toBe(false);
});

test.each<[what: string, registrations: Registration[], reason: string]>([
  [
    "a setting is missing",
    [timer("nightly", "%NIGHTLY%")],
    'Function "nightly": %NIGHTLY% does not resolve: the setting "NIGHTLY" is missing.',
  ],
  [
    "the schedule is none",
    [timer("nightly", "0 0 * * 7")],
    'Function "nightly": not a schedule: field 5: weekday 7 is not between 0 and 6; Sunday is 0',
  ],
  [
    "a trigger is not known",
    [registration("blobs", { type: "blobTrigger" })],
    'Function "blobs": this host does not know the binding "blobTrigger" (in)',
  ],
  [
    "an output is not known",
    [registration("t", { type: "httpTrigger" }, { type: "table", direction: "out" })],
    'does not know the binding "table" (out)',
  ],
  [
    "an input is asked for",
    [registration("t", { type: "httpTrigger" }, { type: "queue", direction: "in" })],
    'does not know the binding "queue" (in)',
  ],
  ["a function has no trigger", [registration("t", { type: "queue" })], '"t" has no trigger'],
  ["a queue name is none", [queue("q", "Not_A_Queue")], '"not_a_queue" is not a queue name'],
  ["an auth level is none", [http("h", { authLevel: "user" })], 'authLevel "user" is not'],
  ["a name is none", [http("1st")], '"1st" is not a function name'],
  ["two names differ by case only", [http("fn"), http("FN")], "the case of a name does not count"],
])("the start fails when %s", (_what, registrations, reason) => {
  expect(() => host(registrations)).toThrow(reason);
});

const routesOf = (...registrations: Registration[]) =>
  buildRoutes(host(registrations).filter(isTriggeredBy("http")), "api");

test("the prefix stands before every route, and a function without a route has its name", () => {
  expect(routesOf(http("one"), http("two", { route: "/x/{id}/" })).map(({ path }) => path)).toEqual(
    ["api/one", "api/x/{id}"],
  );
});

test("a function without methods takes all", () => {
  const routes = routesOf(http("any", { methods: [] }));
  expect(findRoute(routes, "PATCH", "/api/any")?.fn.name).toBe("any");
});

test.each(["admin", "Administrators", "runtime/x"])("the route %s is reserved", (route) => {
  expect(() => routesOf(http("fn", { route }))).toThrow(`the route "${route}" is reserved`);
});

test("two functions may share a route, but no method of it", () => {
  const get = http("a", { route: "x", methods: ["GET"] });
  const post = http("b", { route: "X", methods: ["post"] });
  const routes = routesOf(get, post);
  expect(findRoute(routes, "POST", "/api/x")?.fn.name).toBe("b");
  const clash = 'Function "c": the route "x" with one of its methods belongs to function "a"';
  expect(() => routesOf(get, http("c", { route: "x" }))).toThrow(clash);
  expect(() => routesOf(get, http("c", { route: "x", methods: [] }))).toThrow(clash);
});

test("a route that is not one names its function", () => {
  expect(() => routesOf(http("fn", { route: "{id:odd}" }))).toThrow(
    'Function "fn": the route constraint',
  );
});
