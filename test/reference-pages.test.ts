import { describe, expect, test } from "vitest";
import { loadConfig, SETTINGS, type SettingName } from "../src/config.ts";
import { ERROR_CODES } from "../src/lib/kernel/error-codes.ts";
import { WORK_QUEUES } from "../src/queues.ts";
import * as rules from "./support/page-rules.ts";
import { readSource, readSources, type SourceFile } from "./support/source-files.ts";

/** What has a name has a row, and what has a row exists: `docs/reference` against the code, in both directions. */
const FILES = readSources();
const SETTINGS_PAGE = "docs/reference/settings.md";
const ERRORS_PAGE = "docs/reference/errors.md";
const KEYS_PAGE = "docs/reference/redis-keys.md";
const TABLES_PAGE = "docs/reference/tables.md";

const page = (path: string): string => {
  const text = readSource(path);
  if (text === undefined) throw new Error(`${path} is missing: write it`);
  return text;
};
const file = (path: string, ...lines: string[]): SourceFile => ({
  path,
  text: `${lines.join("\n")}\n`,
});

describe("settings", () => {
  const NAMES = Object.keys(SETTINGS.shape) as SettingName[];
  const rows = rules.tableRows(page(SETTINGS_PAGE));
  const rowOf = (name: string) => rows.find((row) => rules.rowName(row) === name) ?? [];
  const example = JSON.parse(page("local.settings.example.json")) as {
    IsEncrypted: boolean;
    Values: Record<string, string>;
  };

  test("have a row each, and each row is a setting", () => {
    expect(rules.comparePage(SETTINGS_PAGE, page(SETTINGS_PAGE), NAMES)).toEqual([]);
  });

  test.each(NAMES)("%s is documented with its default, and says when to change it", (name) => {
    const [, meaning = "", , range = "", byDefault = "", secret = "", when = ""] = rowOf(name);
    const parsed = SETTINGS.shape[name].safeParse(undefined);
    const isNone =
      parsed.data === undefined || (Array.isArray(parsed.data) && parsed.data.length === 0);
    const expected = parsed.success ? (isNone ? "none" : `\`${String(parsed.data)}\``) : "needed";
    expect(byDefault).toBe(expected);
    expect(meaning.length).toBeGreaterThan(10);
    expect(range).not.toBe("");
    expect(secret).toMatch(/^(yes|no)$/);
    expect(when.length).toBeGreaterThan(5);
  });

  test.each(NAMES)("%s is documented with the range that holds", (name) => {
    const [, , , range = ""] = rowOf(name);
    const [, min, max] =
      /^([\d,]+) to ([\d,]+)$/.exec(range)?.map((text) => Number(text.replaceAll(",", ""))) ?? [];
    const isNumber = typeof SETTINGS.shape[name].safeParse(undefined).data === "number";
    expect(min !== undefined && max !== undefined).toBe(isNumber);
    if (min === undefined || max === undefined) return;
    const accepts = (value: number) => SETTINGS.shape[name].safeParse(String(value)).success;
    expect([min - 1, min, max, max + 1].map(accepts)).toEqual([false, true, true, false]);
  });

  test("whose names say so are documented as secrets", () => {
    const secrets = NAMES.filter((name) => rowOf(name)[5] === "yes");
    expect(secrets.sort()).toEqual([
      "AZURE_OPENAI_API_KEY",
      "AzureWebJobsStorage",
      "REDIS_URL",
      "SLACK_WEBHOOK_URL",
      "SMTP_URL",
      "SUPABASE_KEY",
      "TEAMS_WEBHOOK_URL",
      "UPSTASH_REDIS_REST_TOKEN",
    ]);
  });

  test("stand in local.settings.example.json, and nothing else but what the platform needs there", () => {
    const platform = ["FUNCTIONS_WORKER_RUNTIME"];
    expect(Object.keys(example.Values).sort()).toEqual([...NAMES, ...platform].sort());
    expect(example.IsEncrypted).toBe(false); // absent would mean true
  });

  test("of local.settings.example.json start the service, with the defaults", () => {
    const config = loadConfig(example.Values);
    const needed = { ...example.Values };
    for (const name of NAMES) {
      const parsed = SETTINGS.shape[name].safeParse(undefined);
      if (parsed.success && name !== "REDIS_URL") delete needed[name];
    }
    expect(config).toEqual({ ...loadConfig(needed), environment: "local" });
  });

  test("stand in the infrastructure code, once there is some", () => {
    const bicep = FILES.filter(({ path }) => path.startsWith("bicep/")).map(({ text }) => text);
    const missing = NAMES.filter(
      (name) => bicep.length > 0 && !bicep.some((text) => text.includes(name)),
    );
    expect(missing).toEqual([]);
  });
});

describe("error codes", () => {
  const CODES = Object.entries(ERROR_CODES);
  const rows = rules.tableRows(page(ERRORS_PAGE));

  test("have a row each, and each row is a code", () => {
    expect(rules.comparePage(ERRORS_PAGE, page(ERRORS_PAGE), Object.keys(ERROR_CODES))).toEqual([]);
  });

  test.each(CODES)(
    "%s is documented with its kind and status, and what to do",
    (code, { kind, status }) => {
      const [, ...cells] = rows.find((row) => rules.rowName(row) === code) ?? [];
      expect(cells.slice(0, 2)).toEqual([kind, String(status)]);
      expect(cells[2]?.length).toBeGreaterThan(15);
      expect(cells[3]?.length).toBeGreaterThan(6);
    },
  );

  test("are used", () => {
    const used = FILES.filter(
      ({ path }) => path.startsWith("src/") && !path.endsWith("error-codes.ts"),
    );
    const unused = CODES.map(([code]) => code).filter(
      (code) => !used.some(({ text }) => text.includes(`"${code}"`)),
    );
    expect(unused).toEqual([]);
  });
});

describe("comparing a page", () => {
  const text =
    "| name | x |\n|---|---|\n| `A` | 1 |\n| `B` | 2 |\n\ntext\n\n| name |\n|---|\n| `B` |\n| no name |\n";

  test("finds what is missing, what is stale and what is there twice", () => {
    expect(rules.comparePage("p.md", text, ["A", "C"])).toEqual([
      "p.md: has no row for C; add one",
      "p.md: has a row for B, which does not exist; remove it",
      "p.md: has a row for B, which does not exist; remove it",
      "p.md: has two rows for B; keep one",
    ]);
  });

  test("finds nothing when both agree", () => {
    expect(rules.comparePage("p.md", text.replace("| `B` |\n| no", "| no"), ["A", "B"])).toEqual(
      [],
    );
  });
});

describe("Redis keys", () => {
  test("are all documented, and all documented ones are built", () => {
    expect(rules.redisKeys(KEYS_PAGE, page(KEYS_PAGE))(FILES)).toEqual([]);
    expect(rules.keyPatternsOf(FILES).length).toBeGreaterThan(2);
  });

  test("without a row, and rows without a key, are noticed", () => {
    const inCode = (expression: string) => `$\{${expression}}`;
    const source = file(
      "src/lib/usage/a.ts",
      `const a = \`{u:${inCode("shard")}}:x:${inCode("day")}\`;`,
      'const b = "worker:usage:lock";',
    );
    const table = "| key |\n|---|\n| `{u:s}:x:<day>` |\n| `{u:s}:gone` |\n| `theirs:key` |\n";
    expect(rules.redisKeys("p.md", table)([source])).toEqual([
      "p.md: has no row for the Redis key worker:usage:lock; add type, owner and lifetime",
      "p.md: has a row for {u:*}:gone, which no code builds; remove it",
    ]);
  });
});

describe("tables and SQL functions", () => {
  test("are all documented, and all documented ones exist", () => {
    expect(rules.sqlObjects(TABLES_PAGE, page(TABLES_PAGE))(FILES)).toEqual([]);
    expect(rules.sqlObjectsOf(FILES).length).toBeGreaterThan(20);
  });

  test("without a row, and rows without an object, are noticed", () => {
    const sql = file(
      "supabase/schemas/a.sql",
      "create table worker.uses (id int);",
      "create or replace function worker.use_book(p int) returns int",
    );
    const table =
      "| table | x |\n|---|---|\n| `uses` | |\n| `gone`, `lost(p)` | |\n\n| column |\n|---|\n| `id` |\n";
    expect(rules.sqlObjects("p.md", table)([sql])).toEqual([
      "p.md: does not name use_book; add a row",
      "p.md: has a row for gone, which does not exist; remove it",
      "p.md: has a row for lost, which does not exist; remove it",
    ]);
  });
});

test("every queue that a deployment must create stands in the README", () => {
  const text = page("README.md");
  expect(Object.values(WORK_QUEUES).filter((queue) => !text.includes(`\`${queue}\``))).toEqual([]);
});

describe("pages", () => {
  test("link to what exists", () => {
    expect(rules.links(FILES)).toEqual([]);
  });

  test("that link to nothing are noticed", () => {
    const [home, other] = [
      file("docs/a.md", "[x](b.md) [y](../src/) [z](https://host) [w](#part) [v](c.md#part)"),
      file("src/a.ts"),
    ];
    expect(rules.links([home, other])).toEqual([
      "docs/a.md: links to b.md, which does not exist; mend the link",
      "docs/a.md: links to c.md, which does not exist; mend the link",
    ]);
  });

  test("are reached from the index of their folder", () => {
    expect(rules.indexes(FILES)).toEqual([]);
  });

  test("that no index names are noticed", () => {
    const index = file("docs/adr/README.md", "[1](0001-a.md)");
    expect(rules.indexes([index, file("docs/adr/0001-a.md"), file("docs/adr/0002-b.md")])).toEqual([
      "docs/adr/0002-b.md: nobody finds it; link it from docs/adr/README.md",
    ]);
  });
});
