import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** One text file of the repository; `path` is relative to its root, with slashes. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const FOLDERS = ["src", "local", "test", "supabase", "docs", "bicep", ".ci", ".github"];
const TEXT = /\.(ts|mjs|cjs|js|json|sql|md|bicep|bicepparam|kql|yml|yaml|toml|sh)$|(^|\/)run$/;
const GENERATED = /(^|\/)(package-lock\.json|node_modules|dist|\.package|\.local)(\/|$)/;

/** Everything that people wrote, tracked or about to be; the lock file and what tools make is not. */
export function readSources(): readonly SourceFile[] {
  return listFiles()
    .filter((path) => TEXT.test(path) && !GENERATED.test(path))
    .map((path) => ({ path, text: readFileSync(join(ROOT, path), "utf8") }));
}

/** A file of the repository, or undefined when there is none. */
export const readSource = (path: string): string | undefined =>
  existsSync(join(ROOT, path)) ? readFileSync(join(ROOT, path), "utf8") : undefined;

function listFiles(): string[] {
  const inFolders = FOLDERS.filter((folder) => existsSync(join(ROOT, folder))).flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length).replaceAll("\\", "/")),
  );
  const atRoot = readdirSync(ROOT, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => name);
  return [...inFolders, ...atRoot].sort();
}
