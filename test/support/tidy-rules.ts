import { dirname, join } from "node:path/posix";
import type { SourceFile } from "./source-files.ts";

/** A broken rule: the file, and what to do instead. */
export type Complaint = `${string}: ${string}`;
export type Rule = (files: readonly SourceFile[]) => Complaint[];

export interface Import {
  readonly specifier: string;
  /** Path in the repository, for relative imports. */
  readonly target: string | undefined;
  /** Values that it takes by name; types leave nothing at run time. */
  readonly values: readonly string[];
  /** Takes types only. */
  readonly isType: boolean;
}

const IMPORT =
  /^\s*(?:import|export)\s+(type\s+)?(?:([\w*{}\s,$]+?)\s+from\s+)?"([^"]+)"|\bimport\(\s*"([^"]+)"/gm;

/** What a file imports, in any of the ways there are. */
export function importsOf({ path, text }: SourceFile): Import[] {
  return [...text.matchAll(IMPORT)].map(([, type, clause = "", fixed, dynamic]) => {
    const specifier = fixed ?? dynamic ?? "";
    const target = specifier.startsWith(".") ? join(dirname(path), specifier) : undefined;
    const names = clause.split(/[{},]/).map((name) => name.trim());
    const values = names.filter((name) => name !== "" && !name.startsWith("type "));
    const isType = type !== undefined || (clause !== "" && values.length === 0);
    return { specifier, target, values, isType };
  });
}

const isCode = ({ path }: SourceFile): boolean => /\.(ts|mjs|cjs)$/.test(path);
export const isSource = (file: SourceFile): boolean => isCode(file) && file.path.startsWith("src/");

/** Complains about each import that `advise` has an advice for. */
const eachImport =
  (advise: (file: SourceFile, it: Import) => string | undefined): Rule =>
  (files) =>
    files.filter(isCode).flatMap((file) =>
      importsOf(file).flatMap((it): Complaint[] => {
        const advice = advise(file, it);
        return advice === undefined ? [] : [`${file.path}: imports ${it.specifier}; ${advice}`];
      }),
    );

/** Complains about each line that matches. */
const eachLine =
  (where: (file: SourceFile) => boolean, pattern: RegExp, advice: string): Rule =>
  (files) =>
    files.filter(where).flatMap(({ path, text }) =>
      text.split("\n").flatMap((line, index): Complaint[] => {
        const found = pattern.exec(line)?.[0];
        return found === undefined ? [] : [`${path}:${index + 1}: "${found.trim()}"; ${advice}`];
      }),
    );

// --- direction ---------------------------------------------------------------------------------------------------

/** Which layer a file belongs to. */
function layerOf(path: string): string {
  const [, folder = "", feature = ""] = /^src\/(lib|functions)\/(?:([\w-]+)\/)?/.exec(path) ?? [];
  if (folder === "functions") return "functions";
  if (folder === "lib") return feature;
  if (path === "src/jobs.ts") return "job-registry"; // not of the feature in lib/jobs: it knows every feature
  return /^src\/(\w+)\.ts$/.exec(path)?.[1] ?? path.split("/")[0] ?? "";
}

const LIB_ONLY = ["kernel", "runtime"];
const MAY_IMPORT: Record<string, readonly string[]> = {
  main: ["config", "services", "functions"],
  config: ["kernel"],
  queues: ["*"],
  services: ["config", "queues", "job-registry", ...LIB_ONLY, "*"],
  producer: [...LIB_ONLY, "*"],
  work: ["services", "*"],
  "job-registry": ["config", "services", "work", "*"],
  functions: ["config", "services", "queues", "work", "job-registry", ...LIB_ONLY, "*"],
  kernel: ["kernel"],
  runtime: LIB_ONLY,
};
/** Files of a feature that stand at its edge; they use the shared connection of their kind. */
const EDGE = /\.(http|redis|supabase|storage|graph)\.ts$/;

const ADVICE: Record<string, string> = {
  main: "main.ts only composes: move this to services.ts or to a function file",
  config: "config.ts judges settings and knows lib/kernel only",
  kernel: "the kernel imports nothing above it: pass what it needs as an argument",
  runtime: "lib/runtime knows lib/kernel only: let the feature pass it in",
  queues: "queues.ts names queues and knows nothing but the features that use them",
};

/** main → config, services, functions → lib; a feature knows itself, the kernel, and at its edge the runtime. */
export const importDirection: Rule = eachImport(({ path }, { target }) => {
  if (!path.startsWith("src/") || target === undefined) return undefined;
  if (!target.startsWith("src/")) return "src ships alone: nothing in it may need another folder";
  const [from, to] = [layerOf(path), layerOf(target)];
  if (from === to) return undefined;
  const isFeature = !(from in MAY_IMPORT);
  if (isFeature) return featureAdvice(path, to);
  const allowed = MAY_IMPORT[from] ?? [];
  const isAllowed = allowed.includes(to) || (allowed.includes("*") && !(to in MAY_IMPORT));
  return isAllowed ? undefined : (ADVICE[from] ?? "see the arrows in CONTRIBUTING.md");
});

function featureAdvice(path: string, to: string): string | undefined {
  if (to === "kernel") return undefined;
  if (to === "runtime")
    return EDGE.test(path)
      ? undefined
      : "the core of a feature declares a port, and an adapter or a route uses the runtime";
  if (to in MAY_IMPORT) return "lib receives what it needs by argument: declare a port";
  return `declare a port here and let services.ts connect it to lib/${to}`;
}

// --- suffixes ----------------------------------------------------------------------------------------------------

const PACKAGES: readonly { kind: string; packages: RegExp; allowed: RegExp }[] = [
  { kind: "redis", packages: /^(ioredis|redis|@upstash\/redis)(\/|$)/, allowed: /\.redis\.ts$/ },
  { kind: "supabase", packages: /^@supabase\//, allowed: /\.supabase\.ts$/ },
  { kind: "graph", packages: /^@microsoft\//, allowed: /\.graph\.ts$/ },
  { kind: "storage", packages: /^@azure\/storage-/, allowed: /\.storage\.ts$/ },
  {
    kind: "http",
    packages: /^(hono|@hono\/[\w-]+)(\/|$)/,
    allowed: /\.http\.ts$|^src\/lib\/runtime\//,
  },
];
const FUNCTIONS_ALLOWED = /^src\/(main\.ts|functions\/|lib\/runtime\/)/;

/** Only the file whose suffix says so touches a backend's package. */
export const suffixOfPackages: Rule = eachImport(({ path }, { specifier }) => {
  if (!path.startsWith("src/")) return undefined;
  if (specifier === "@azure/functions" && !FUNCTIONS_ALLOWED.test(path))
    return "only main.ts, src/functions and src/lib/runtime know Azure Functions: take a Run instead";
  const law = PACKAGES.find(({ packages }) => packages.test(specifier));
  if (law === undefined || law.allowed.test(path)) return undefined;
  return `move what uses it to a file that ends in .${law.kind}.ts, behind a port`;
});

/** Where adapters and routes are put together. */
const COMPOSES = /^src\/((services|queues|producer)\.ts$|functions\/)/;

/**
 * An adapter is reached through the port it implements. Its types may be named anywhere, and a route may answer with
 * the schema that the adapter reads rows by.
 */
export const suffixOfImports: Rule = eachImport(({ path }, { target, values, isType }) => {
  const [, kind] = /\.(redis|supabase|graph|storage|http)\.ts$/.exec(target ?? "") ?? [];
  const isAdapter = kind !== undefined && !target?.startsWith("src/functions/");
  if (!path.startsWith("src/") || !isAdapter || isType || COMPOSES.test(path)) return undefined;
  const isSchema = values.length > 0 && values.every((name) => /^[A-Z]\w*Schema$/.test(name));
  if (path.endsWith(`.${kind}.ts`) || (path.endsWith(".http.ts") && isSchema)) return undefined;
  return `only *.${kind}.ts and the composition import it; take the port as an argument, or move shared data to a plain file`;
});

// --- one place for each thing ------------------------------------------------------------------------------------

export const environment: Rule = eachLine(
  (file) => isSource(file) && file.path !== "src/config.ts",
  /process\.env\b|process\[["']env["']\]|import\.meta\.env\b|\{[^}]*\benv\b[^}]*\}\s*=\s*process\b/,
  "read the setting in src/config.ts and pass the value on",
);

export const timers: Rule = eachLine(
  (file) => isSource(file) && !/^src\/(services\.ts|lib\/(kernel|runtime)\/)/.test(file.path),
  /\bset(Timeout|Interval|Immediate)\s*\(|["']node:timers|\bDate\.now\(\)|\bnew Date\(\)/,
  "use the clock, kernel/retry.ts or kernel/deadline.ts, so that tests can set the time",
);

/** No barrels and no aliases: the file you read is the file that runs. */
export const relativeSpecifiers: Rule = eachImport((_file, { specifier }) => {
  if (/^[~#]|^@\//.test(specifier)) return "name the file by its relative path";
  const isRelative = specifier.startsWith(".");
  return isRelative && !/\.(ts|cjs|mjs|json)$/.test(specifier) ? "end it in .ts" : undefined;
});

/** A function file that main.ts does not import is not deployed, and nothing says so. */
export const functionFiles: Rule = (files) => {
  const main = files.find(({ path }) => path === "src/main.ts");
  const loaded = new Set(main === undefined ? [] : importsOf(main).map(({ target }) => target));
  return files
    .filter(({ path }) => path.startsWith("src/functions/"))
    .flatMap(({ path }): Complaint[] => {
      if (!/\.(timer|queue|http)\.ts$/.test(path))
        return [`${path}: name it after its trigger: .timer.ts, .queue.ts or .http.ts`];
      return loaded.has(path) ? [] : [`${path}: is not registered; import it in src/main.ts`];
    });
};

// --- words that must not stay ------------------------------------------------------------------------------------

/** The rules and their bad samples say the words. */
const isRulebook = ({ path }: SourceFile): boolean =>
  /^test\/(support\/tidy-rules|tidy\.test)\.ts$/.test(path);

export const unfinished: Rule = eachLine(
  (file) => !isRulebook(file),
  /\b(TODO|FIXME|XXX|HACK)\b|@ts-(ignore|nocheck|expect-error)/,
  "finish it, or write an issue and remove the mark",
);

export const machinePaths: Rule = eachLine(
  (file) => !isRulebook(file),
  /(?<![\w.~$}/])\/(work|tmp|root|home\/\w+|Users\/\w+|var\/folders)(?=[/"'`\s)]|$)|\b[A-Z]:\\\\?Users\b/,
  "use a path relative to the file, or os.tmpdir()",
);

export const testTitles: Rule = eachLine(
  (file) => file.path.endsWith(".test.ts") && !isRulebook(file),
  /\b(test|it|describe)\b[^"'`]*\(\s*["'`][^"'`]*\bshould\b/,
  "say what happens, in the present tense",
);

export const testDoubles: Rule = eachLine(
  (file) => file.path.startsWith("test/") && !isRulebook(file),
  /\bvi\.(mock|doMock|hoisted)\(|\bas (unknown as )?InvocationContext\b|\b(test|it|describe)\.only\(/,
  "pass the part as an argument, or construct the real one; run everything",
);

// --- sizes: ratchets ---------------------------------------------------------------------------------------------

export const FILE_LINES_MAX = 400;
/** Tables of cases are long and easy to read. */
export const TEST_LINES_MAX = 600;
export const FUNCTION_LINES_MAX = 70;

/** Files that were past the mark before it was set, or are one long table, with their size: they may shrink only. */
export const fileSize =
  (marks: Readonly<Record<string, number>>): Rule =>
  (files) => {
    const measured = files
      .filter(isCode)
      .map(({ path, text }) => ({ path, lines: lineCount(text), mark: marks[path] ?? 0 }));
    const tooLong = measured.flatMap(({ path, lines, mark }): Complaint[] => {
      const max = Math.max(mark, linesMax(path));
      return lines > max
        ? [`${path}: has ${lines} lines, at most ${max}; find its second subject`]
        : [];
    });
    const stale = Object.entries(marks).flatMap(([path, mark]): Complaint[] => {
      const lines = measured.find((file) => file.path === path)?.lines ?? 0;
      const isNeeded = lines >= mark && lines > linesMax(path);
      return isNeeded
        ? []
        : [`${path}: has ${lines} lines now; lower its mark of ${mark}, or remove it`];
    });
    return [...tooLong, ...stale];
  };

const linesMax = (path: string): number =>
  path.endsWith(".test.ts") ? TEST_LINES_MAX : FILE_LINES_MAX;

const lineCount = (text: string): number => text.split("\n").length - (text.endsWith("\n") ? 1 : 0);

const FUNCTION_START =
  /^(\s*)(?:export )?(?:default )?(?:async )?(?:function\b.*|(?:const|let) \w+.*=> |\w+: (?:async )?\(.*=> |(?:static |async |get |#)*\w+\(.*\).*)\{$/;

/** By indentation, which the formatter guarantees: a function ends at the first line that starts like it with `}`. */
export const functionSize: Rule = (files) =>
  files.filter(isSource).flatMap(({ path, text }) => {
    const lines = text.split("\n");
    return lines.flatMap((line, start): Complaint[] => {
      const indent = FUNCTION_START.exec(line)?.[1];
      if (indent === undefined || /^\s*(if|for|while|switch|catch)\b/.test(line)) return [];
      const length = lines.slice(start).findIndex((it) => it.startsWith(`${indent}}`)) + 1;
      if (length <= FUNCTION_LINES_MAX) return [];
      return [
        `${path}:${start + 1}: a function of ${length} lines, at most ${FUNCTION_LINES_MAX}; split it by what it decides`,
      ];
    });
  });
