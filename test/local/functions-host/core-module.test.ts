import { createRequire } from "node:module";
import { expect, test } from "vitest";
import { installCoreModule } from "../../../local/functions-host/core-module.ts";
import { loadApp } from "../../../local/functions-host/load-app.ts";
import { createApp } from "./support.ts";

interface CoreApi {
  readonly version: string;
  registerFunction(metadata: object, callback: () => void): { dispose(): void };
  registerHook(name: string, callback: () => void): { dispose(): void };
}

const core = installCoreModule(() => {});
const api = createRequire(import.meta.url)("@azure/functions-core") as CoreApi;
const register = (name: string) => api.registerFunction({ name, bindings: {} }, () => {});

test("the module that only the Node worker of Azure has can be required here", () => {
  expect(api.version).toMatch(/^3\./);
});

test("a process has one host", () => {
  expect(() => installCoreModule(() => {})).toThrow("This process has a Functions host already");
});

test("a name is registered once, and may be given back until the app has started", () => {
  const first = register("first");
  expect(() => register("first")).toThrow(
    'A function with id "first" has already been registered.',
  );
  first.dispose();
  register("first");
  const second = register("second");
  expect(core.registrations().map(({ id }) => id)).toEqual(["first", "second"]);
  core.lock();
  expect(() => register("third")).toThrow("A function can only be registered during app startup.");
  expect(() => second.dispose()).toThrow("A function can only be disposed during app startup.");
});

test("hooks run in the order of registration, until they are disposed", async () => {
  const seen: string[] = [];
  api.registerHook("preInvocation", () => void seen.push("a"));
  const b = api.registerHook("preInvocation", () => void seen.push("b"));
  await core.hooks.run("preInvocation", {});
  b.dispose();
  await core.hooks.run("preInvocation", {});
  expect(seen).toEqual(["a", "b", "a"]);
});

test("a hook that is not known is refused in the way the library tests for", () => {
  let thrown: unknown;
  try {
    api.registerHook("unheard", () => {});
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(RangeError);
  expect(thrown).toMatchObject({ isAzureFunctionsSystemError: true });
});

test("a log hook that logs does not call itself", () => {
  let calls = 0;
  api.registerHook("log", () => {
    calls += 1;
    core.log("information", "user", "from the hook");
  });
  core.log("information", "user", "first");
  expect(calls).toBe(1);
});

test.each<[what: string, files: Record<string, string | object>, reason: string]>([
  ["has no package.json", {}, "package.json cannot be read"],
  ["has no main", { "package.json": {} }, 'has no "main": Azure would start no function'],
  [
    "has a main that matches nothing",
    { "package.json": { main: "./dist/*.js" } },
    'No file matches "main" of package.json ("./dist/*.js")',
  ],
])("an app is refused when it %s", async (_what, files, reason) => {
  await expect(loadApp({ dir: createApp(files) })).rejects.toThrow(reason);
});
