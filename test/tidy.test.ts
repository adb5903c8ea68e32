import { describe, expect, test } from "vitest";
import { readSources, type SourceFile } from "./support/source-files.ts";
import type { Complaint, Rule } from "./support/tidy-rules.ts";
import * as rules from "./support/tidy-rules.ts";

/**
 * The house rules. Each complaint names the file and what to do instead. Each rule is also fed something that breaks
 * it, so that a rule which went blind is noticed.
 */
const FILES = readSources();

/** Longer than the mark for a reason; they may shrink only. */
const LONG_FILES: Readonly<Record<string, number>> = {};

const file = (path: string, ...lines: string[]): SourceFile => ({
  path,
  text: `${lines.join("\n")}\n`,
});
const EVERY_LAYER = [file("src/lib/usage/a.ts"), file("src/lib/email/b.ts")];

interface Law {
  readonly name: string;
  readonly rule: Rule;
  /** Each breaks the rule, by itself. */
  readonly bad: readonly SourceFile[];
  /** Each keeps it, though it looks similar. */
  readonly good: readonly SourceFile[];
}

const LAWS: readonly Law[] = [
  {
    name: "imports point down: main → functions → services → lib, and no feature knows another",
    rule: rules.importDirection,
    bad: [
      file("src/main.ts", 'import { log } from "./lib/runtime/logger.ts";'),
      file("src/config.ts", 'import { createRpc } from "./lib/runtime/rpc.supabase.ts";'),
      file("src/config.ts", 'import { services } from "./services.ts";'),
      file("src/services.ts", 'import "./functions/a.timer.ts";'),
      file("src/functions/a.timer.ts", 'import { b } from "../main.ts";'),
      file("src/lib/usage/a.ts", 'import { services } from "../../services.ts";'),
      file("src/lib/usage/a.ts", 'import type { Config } from "../../config.ts";'),
      file(
        "src/lib/usage/a.http.ts",
        'import { web } from "../../functions/management-api.http.ts";',
      ),
      file("src/lib/usage/a.ts", 'import { mail } from "../email/b.ts";'),
      file("src/lib/usage/deep/a.ts", 'import type { Mail } from "../../email/b.ts";'),
      file(
        "src/lib/usage/a.ts",
        "export async function f() {",
        '  return (await import("../email/b.ts")).mail;',
        "}",
      ),
      file("src/lib/usage/a.ts", 'export { mail } from "../email/b.ts";'),
      file("src/lib/usage/a.ts", 'import { createLogger } from "../runtime/logger.ts";'),
      file("src/lib/kernel/a.ts", 'import { createLogger } from "../runtime/logger.ts";'),
      file("src/lib/kernel/a.ts", 'import { use } from "../usage/a.ts";'),
      file("src/lib/runtime/a.ts", 'import { use } from "../usage/a.ts";'),
      file("src/lib/usage/a.ts", 'import { start } from "../../../local/start.ts";'),
      file("src/lib/usage/a.ts", 'import { start } from "../../../test/support/stack.ts";'),
    ],
    good: [
      file(
        "src/main.ts",
        'import "./functions/a.timer.ts";',
        'import { loadConfig } from "./config.ts";',
        'import { configure } from "./services.ts";',
      ),
      file(
        "src/functions/a.timer.ts",
        'import { use } from "../lib/usage/a.ts";',
        'import { runTrigger } from "../lib/runtime/run-trigger.ts";',
      ),
      file("src/services.ts", 'import { use } from "./lib/usage/a.ts";'),
      file(
        "src/lib/usage/deep/a.ts",
        'import { use } from "../a.ts";',
        'import { retry } from "../../kernel/retry.ts";',
      ),
      file("src/lib/usage/a.http.ts", 'import { createRoutes } from "../runtime/routes.http.ts";'),
      file("src/lib/usage/a.supabase.ts", 'import type { Rpc } from "../runtime/rpc.supabase.ts";'),
      file("test/a.test.ts", 'import { services } from "../src/services.ts";'),
    ],
  },
  {
    name: "only the file whose suffix says so uses the package of a backend",
    rule: rules.suffixOfPackages,
    bad: [
      file("src/lib/usage/a.ts", 'import { Redis } from "ioredis";'),
      file("src/lib/usage/a.ts", 'import type { Redis } from "ioredis";'),
      file("src/lib/usage/a.supabase.ts", 'import { Redis } from "@upstash/redis";'),
      file("src/lib/usage/a.redis.ts", 'import { createClient } from "@supabase/supabase-js";'),
      file(
        "src/services.ts",
        "export async function f() {",
        '  return import("@supabase/supabase-js");',
        "}",
      ),
      file("src/lib/usage/a.ts", 'import { QueueClient } from "@azure/storage-queue";'),
      file("src/lib/usage/a.ts", 'import { Hono } from "hono";'),
      file("src/lib/kernel/a.ts", 'import { z } from "@hono/zod-openapi";'),
      file("src/lib/usage/a.http.ts", 'import type { HttpRequest } from "@azure/functions";'),
      file("src/services.ts", 'import { app } from "@azure/functions";'),
    ],
    good: [
      file("src/lib/usage/a.redis.ts", 'import { Redis } from "ioredis";'),
      file("src/lib/usage/a.http.ts", 'import { z } from "@hono/zod-openapi";'),
      file(
        "src/lib/runtime/a.ts",
        'import { cors } from "hono/cors";',
        'import type { InvocationContext } from "@azure/functions";',
      ),
      file("src/functions/a.timer.ts", 'import { app } from "@azure/functions";'),
      file("src/lib/usage/a.ts", 'import { z } from "zod";'),
      file("local/a.ts", 'import { Redis } from "ioredis";'),
    ],
  },
  {
    name: "an adapter is reached through its port",
    rule: rules.suffixOfImports,
    bad: [
      file("src/lib/usage/a.ts", 'import { usageLog } from "./usage-log.redis.ts";'),
      file("src/lib/usage/a.ts", 'import { type UsageLog, usageLog } from "./usage-log.redis.ts";'),
      file("src/lib/usage/a.http.ts", 'import { usageLedger } from "./usage-ledger.supabase.ts";'),
      file("src/lib/usage/a.ts", 'import { TotalSchema } from "./usage-reads.supabase.ts";'),
      file("src/lib/usage/a.redis.ts", 'import { rows } from "./usage-ledger.supabase.ts";'),
      file("src/lib/usage/a.ts", 'import { routes } from "./usage.http.ts";'),
    ],
    good: [
      file("src/lib/usage/a.ts", 'import type { UsageLog } from "./usage-log.redis.ts";'),
      file("src/lib/usage/a.ts", 'import { type UsageLog, type Row } from "./usage-log.redis.ts";'),
      file(
        "src/lib/usage/a.http.ts",
        'import { TotalSchema, type Total } from "./usage-reads.supabase.ts";',
      ),
      file("src/lib/usage/a.redis.ts", 'import { usageLog } from "./usage-log.redis.ts";'),
      file("src/services.ts", 'import { usageLog } from "./lib/usage/usage-log.redis.ts";'),
    ],
  },
  {
    name: "only src/config.ts reads the environment",
    rule: rules.environment,
    bad: [
      file("src/lib/usage/a.ts", 'const url = process.env["REDIS_URL"];'),
      file("src/services.ts", "const { env } = process;"),
      file("src/lib/usage/a.ts", 'const url = process["env"].REDIS_URL;'),
    ],
    good: [
      file("src/config.ts", "export function loadConfig(env = process.env) {}"),
      file("src/lib/usage/a.ts", "const at = process.uptime();"),
      file("test/a.test.ts", 'process.env["TZ"] = "UTC";'),
    ],
  },
  {
    name: "features set no timers and ask the clock for the time",
    rule: rules.timers,
    bad: [
      file("src/lib/usage/a.ts", "setTimeout(() => {}, 10);"),
      file("src/lib/usage/a.ts", "const timer = setInterval(poll, 10);"),
      file("src/lib/usage/a.ts", 'import { setTimeout as sleep } from "node:timers/promises";'),
      file("src/lib/usage/a.ts", "const now = Date.now();"),
      file("src/functions/a.timer.ts", "const now = new Date();"),
    ],
    good: [
      file("src/lib/kernel/retry.ts", "setTimeout(() => {}, 10);"),
      file("src/lib/usage/a.ts", "const now = deps.clock.now();", "const at = new Date(now);"),
    ],
  },
  {
    name: "a relative import names the file that runs",
    rule: rules.relativeSpecifiers,
    bad: [
      file("src/lib/usage/a.ts", 'import { b } from "./b";'),
      file("src/lib/usage/a.ts", 'import { b } from "./b.js";'),
      file("test/a.test.ts", 'import { b } from "~/lib/b.ts";'),
      file("local/a.ts", 'export * from "../src/lib";'),
    ],
    good: [
      file(
        "src/lib/usage/a.ts",
        'import { b } from "./b.ts";',
        'import { z } from "zod";',
        'import "@azure/functions";',
      ),
    ],
  },
  {
    name: "nothing is left unfinished",
    rule: rules.unfinished,
    bad: [
      file("src/a.ts", "// TODO: later"),
      file("docs/a.md", "FIXME"),
      file("test/a.test.ts", "// @ts-ignore"),
      file("local/a.ts", "// @ts-expect-error because"),
    ],
    good: [file("src/a.ts", "const todos = [];", "// what is to do")],
  },
  {
    name: "no path of one machine",
    rule: rules.machinePaths,
    bad: [
      ...["tmp", "work", "root"].map((top) => file("src/a.ts", `const dir = "/${top}/worker";`)),
      file("docs/a.md", "see /home/anna/worker"),
      file("local/a.ts", 'const dir = "C:\\\\Users\\\\anna";'),
      file("package.json", '{ "path": "/Users/anna" }'),
    ],
    good: [
      file("src/a.ts", 'const path = "/usage/work";', "const dir = join(tmpdir(), 'a');"),
      file("docs/a.md", "https://host/tmp/x and node_modules/work/x"),
    ],
  },
  {
    name: "test titles say what happens",
    rule: rules.testTitles,
    bad: [
      file("test/a.test.ts", 'test("should count tokens", () => {});'),
      file("test/a.test.ts", "describe.each([1])('a run that should end', () => {});"),
    ],
    good: [file("test/a.test.ts", 'test("counts tokens", () => {});', "expect(should).toBe(1);")],
  },
  {
    name: "tests use real parts, and all of them run",
    rule: rules.testDoubles,
    bad: [
      file("test/a.test.ts", 'vi.mock("../src/services.ts");'),
      file("test/a.test.ts", "const context = {} as InvocationContext;"),
      file("test/a.test.ts", "const context = {} as unknown as InvocationContext;"),
      file("test/a.test.ts", 'test.only("one", () => {});'),
    ],
    good: [
      file("test/a.test.ts", "const context = new InvocationContext();", "vi.useFakeTimers();"),
    ],
  },
  {
    name: `a file has at most ${rules.FILE_LINES_MAX} lines`,
    rule: rules.fileSize(LONG_FILES),
    bad: [file("src/a.ts", ...Array.from({ length: 401 }, () => "x;"))],
    good: [
      file("src/a.ts", ...Array.from({ length: 400 }, () => "x;")),
      file("docs/a.md", ...Array.from({ length: 900 }, () => "text")),
    ],
  },
  {
    name: `a function has at most ${rules.FUNCTION_LINES_MAX} lines`,
    rule: rules.functionSize,
    bad: [
      file(
        "src/a.ts",
        "export async function f(a: string): Promise<void> {",
        ...Array.from({ length: 70 }, () => "  x;"),
        "}",
      ),
      file(
        "src/a.ts",
        "export const f = (a: string): void => {",
        ...Array.from({ length: 70 }, () => "  x;"),
        "};",
      ),
      file(
        "src/a.ts",
        "const o = {",
        "  f: async (a) => {",
        ...Array.from({ length: 70 }, () => "    x;"),
        "  },",
        "};",
      ),
      file(
        "src/a.ts",
        "class A {",
        "  async f(a: string) {",
        ...Array.from({ length: 70 }, () => "    x;"),
        "  }",
        "}",
      ),
    ],
    good: [
      file(
        "src/a.ts",
        "function f() {",
        ...Array.from({ length: 68 }, () => "  x;"),
        "}",
        "function g() {",
        ...Array.from({ length: 68 }, () => "  x;"),
        "}",
      ),
      file("src/a.ts", "export const TABLE = {", ...Array.from({ length: 90 }, () => "  x,"), "};"),
    ],
  },
];

describe.each(LAWS)("$name", ({ rule, bad, good }) => {
  test("holds", () => {
    expect(rule(FILES)).toEqual([]);
  });

  test.each(bad.map((sample) => [sample.text.split("\n")[0], sample] as const))(
    "is seen broken by %s",
    (_line, sample) => {
      const complaints = rule([...EVERY_LAYER, sample]);
      expect(complaints).toHaveLength(1);
      expectToHelp(complaints[0] ?? ": ", sample.path);
    },
  );

  test("does not complain about what only looks similar", () => {
    expect(rule([...EVERY_LAYER, ...good])).toEqual([]);
  });
});

/** Names the file, and says what to do. */
function expectToHelp(complaint: Complaint, path: string): void {
  expect(complaint).toMatch(/^\S+: \S.*[;:,] .{5,}/);
  expect(complaint.startsWith(path)).toBe(true);
}

test("the rules see all of the repository", () => {
  const paths = FILES.map(({ path }) => path);
  for (const known of [
    "src/main.ts",
    "src/lib/kernel/errors.ts",
    "test/tidy.test.ts",
    "docs/adr/README.md",
    "host.json",
    "supabase/config.toml",
  ])
    expect(paths).toContain(known);
  expect(paths.filter((path) => /node_modules|dist\//.test(path))).toEqual([]);
});

describe("importsOf", () => {
  test("finds every way to import, over several lines too", () => {
    const sample = file(
      "src/lib/usage/a.ts",
      'import "./effect.ts";',
      'import whole from "whole";',
      'import * as all from "all";',
      "import {",
      "  type T,",
      "  value,",
      '} from "./several.ts";',
      'import type { U } from "./types.ts";',
      'export { again } from "./again.ts";',
      'const lazy = await import("lazy");',
      'const text = "import nothing";',
    );
    expect(rules.importsOf(sample).map(({ specifier, isType }) => [specifier, isType])).toEqual([
      ["./effect.ts", false],
      ["whole", false],
      ["all", false],
      ["./several.ts", false],
      ["./types.ts", true],
      ["./again.ts", false],
      ["lazy", false],
    ]);
    expect(rules.importsOf(sample)[3]).toMatchObject({
      target: "src/lib/usage/several.ts",
      values: ["value"],
    });
  });
});

describe("function files", () => {
  test("are named after their trigger and registered by main.ts", () => {
    expect(rules.functionFiles(FILES)).toEqual([]);
  });

  test("that main.ts forgets, or that are named otherwise, are noticed", () => {
    const main = file("src/main.ts", 'import "./functions/a.timer.ts";');
    const complaints = rules.functionFiles([
      main,
      file("src/functions/a.timer.ts"),
      file("src/functions/b.queue.ts"),
      file("src/functions/c.ts"),
    ]);
    expect(complaints).toEqual([
      "src/functions/b.queue.ts: is not registered; import it in src/main.ts",
      "src/functions/c.ts: name it after its trigger: .timer.ts, .queue.ts or .http.ts",
    ]);
  });
});

describe("marks of long files", () => {
  const long = file("src/a.ts", ...Array.from({ length: 450 }, () => "x;"));

  test("allow what is there, and no line more", () => {
    expect(rules.fileSize({ "src/a.ts": 450 })([long])).toEqual([]);
    expect(rules.fileSize({ "src/a.ts": 449 })([long])).toEqual([
      "src/a.ts: has 450 lines, at most 449; find its second subject",
    ]);
  });

  test("go down with the file, and away", () => {
    expect(rules.fileSize({ "src/a.ts": 460 })([long])).toEqual([
      "src/a.ts: has 450 lines now; lower its mark of 460, or remove it",
    ]);
    expect(rules.fileSize({ "src/gone.ts": 460 })([])).toEqual([
      "src/gone.ts: has 0 lines now; lower its mark of 460, or remove it",
    ]);
  });
});
