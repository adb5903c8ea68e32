import { dirname, join } from "node:path/posix";
import type { SourceFile } from "./source-files.ts";
import { type Complaint, isSource, type Rule } from "./tidy-rules.ts";

export interface PageTable {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** The tables of a page, cell by cell. */
export function tablesOf(page: string): PageTable[] {
  const blocks = page
    .split(/\n(?!\|)/)
    .map((block) => block.split("\n").filter((line) => line.startsWith("|")));
  return blocks
    .filter(([, rule = ""]) => /^\|[\s:|-]+\|$/.test(rule))
    .map(([head = "", , ...rows]) => ({ head: cellsOf(head), rows: rows.map(cellsOf) }));
}

const cellsOf = (line: string): string[] =>
  line
    .split(/(?<!\\)\|/)
    .slice(1, -1)
    .map((cell) => cell.trim());

export const tableRows = (page: string): readonly (readonly string[])[] =>
  tablesOf(page).flatMap(({ rows }) => rows);

/** The name in the first cell, when it is written as code. */
export const rowName = ([first = ""]: readonly string[]): string | undefined =>
  /^`([^`]+)`$/.exec(first)?.[1];

/** Both directions: what exists has a row, and what has a row exists. */
export function comparePage(path: string, page: string, names: readonly string[]): Complaint[] {
  const rows = tableRows(page).flatMap((row) => rowName(row) ?? []);
  const missing = names.filter((name) => !rows.includes(name));
  const stale = rows.filter((name) => !names.includes(name));
  const twice = rows.filter((name, index) => rows.indexOf(name) !== index);
  return [
    ...missing.map((name): Complaint => `${path}: has no row for ${name}; add one`),
    ...stale.map(
      (name): Complaint => `${path}: has a row for ${name}, which does not exist; remove it`,
    ),
    ...twice.map((name): Complaint => `${path}: has two rows for ${name}; keep one`),
  ];
}

/** A link to a file that does not exist helps nobody at night. */
export const links: Rule = (files) => {
  const known = new Set(files.map(({ path }) => path));
  return files
    .filter(({ path }) => path.endsWith(".md"))
    .flatMap(({ path, text }) =>
      [...text.matchAll(/\]\((?![a-z]+:|#)([^)#\s]+)/g)].flatMap(([, link = ""]): Complaint[] => {
        const target = join(dirname(path), link).replace(/\/$/, "");
        const exists =
          known.has(target) || files.some((file) => file.path.startsWith(`${target}/`));
        return exists ? [] : [`${path}: links to ${link}, which does not exist; mend the link`];
      }),
    );
};

/** Each folder of pages has an index that leads to every one of them. */
export const indexes: Rule = (files) =>
  files
    .filter(({ path }) => /^docs\/[\w-]+\/(?!README)[\w-]+\.md$/.test(path))
    .flatMap(({ path }): Complaint[] => {
      const index = join(dirname(path), "README.md");
      const text = files.find((file) => file.path === index)?.text ?? "";
      const name = path.slice(dirname(path).length + 1);
      return text.includes(`(${name})`) ? [] : [`${path}: nobody finds it; link it from ${index}`];
    });

/** `{u:${shard}}:c:${period}` in code and `{u:s}:c:<yyyymm>` on the page are one pattern: `{u:*}:c:*`. */
export const keyPattern = (text: string): string =>
  text.replaceAll(/\$\{[^}]*\}|<[^>]*>/g, "*").replaceAll(/\{u:\w+\}/g, "{u:*}");

/** The patterns of our own Redis keys that the code builds. */
export const keyPatternsOf = (files: readonly SourceFile[]): string[] => [
  ...new Set(
    files
      .filter(isSource)
      .flatMap(({ text }) => [...text.matchAll(/[`"]((?:\{u:|worker:)[^`"\s]*)[`"]/g)])
      .map(([, key = ""]) => keyPattern(key)),
  ),
];

export const redisKeys =
  (path: string, page: string): Rule =>
  (files) => {
    const documented = tableRows(page)
      .flatMap((row) => rowName(row) ?? [])
      .map(keyPattern);
    const built = keyPatternsOf(files);
    const missing = built.filter((key) => !documented.includes(key));
    const stale = documented.filter((key) => /^(\{u:|worker:)/.test(key) && !built.includes(key));
    return [
      ...missing.map(
        (key): Complaint =>
          `${path}: has no row for the Redis key ${key}; add type, owner and lifetime`,
      ),
      ...stale.map(
        (key): Complaint => `${path}: has a row for ${key}, which no code builds; remove it`,
      ),
    ];
  };

/** Tables and functions of the schema `worker`, from their current text. */
export const sqlObjectsOf = (files: readonly SourceFile[]): string[] => [
  ...new Set(
    files
      .filter(({ path }) => /^supabase\/schemas\/.*\.sql$/.test(path))
      .flatMap(({ text }) => [
        ...text.matchAll(
          /^create (?:or replace function|table(?: if not exists)?) worker\.(\w+)/gim,
        ),
      ])
      .map(([, name = ""]) => name),
  ),
];

export const sqlObjects =
  (path: string, page: string): Rule =>
  (files) => {
    const objects = sqlObjectsOf(files);
    const named = [...page.matchAll(/`(\w+)(?:\([^`]*\))?`/g)].map(([, name = ""]) => name);
    const lists = tablesOf(page).filter(({ head }) => /^(table|function)$/.test(head[0] ?? ""));
    const firstCells = lists.flatMap(({ rows }) => rows.map(([cell = ""]) => cell));
    const first = firstCells.flatMap((cell) => [...cell.matchAll(/`(\w+)(?:\([^`]*\))?`/g)]);
    const stale = first.map(([, name = ""]) => name).filter((name) => !objects.includes(name));
    return [
      ...objects
        .filter((name) => !named.includes(name))
        .map((name): Complaint => `${path}: does not name ${name}; add a row`),
      ...stale.map(
        (name): Complaint => `${path}: has a row for ${name}, which does not exist; remove it`,
      ),
    ];
  };
