import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { build } from "esbuild";
import ignore from "ignore";
import { StartError } from "./backends/start-error.ts";

const ENTRIES = {
  main: "src/main.ts",
  producer: "src/producer.ts",
  // A process of its own: `readerEntry` finds it beside the bundle.
  "document-reader": "src/lib/documents/read/document-reader.ts",
};
/**
 * `@azure/functions-core` exists only inside of the Functions worker. The others belong to parts of the parser of Office
 * files that are never called, and to the recognition of scanned pages, which says so when they are missing.
 */
const EXTERNAL = [
  "@azure/functions-core",
  "@hyzyla/pdfium",
  "pdf-lib",
  "pdfjs-dist",
  "puppeteer",
  "tesseract.js",
];
/** Packages that read their own path or CommonJS globals find them; the host's module is required, not imported. */
const BANNER = [
  'import { createRequire as __createRequire } from "node:module";',
  "const require = __createRequire(import.meta.url);",
  "const __filename = import.meta.filename;",
  "const __dirname = import.meta.dirname;",
].join("\n");
/** All that the platform and Node read; dependencies are inside the bundle. */
const KEPT_FIELDS = ["name", "version", "type", "main", "engines"] as const;

export interface BuiltPackage {
  readonly dir: string;
  /** Paths with forward slashes, sorted. */
  readonly files: readonly { readonly path: string; readonly bytes: number }[];
}

/**
 * Bundles the app into `dist/` and stages what is deployed in `.package/`: what `.funcignore` leaves.
 */
export async function buildPackage(root: string): Promise<BuiltPackage> {
  await bundle(root);
  const dir = join(root, ".package");
  rmSync(dir, { recursive: true, force: true });
  for (const path of deployedFiles(root)) copyInto(dir, root, path);
  writePackageJson(root, dir);
  const files = listFiles(dir)
    .sort()
    .map((path) => ({ path, bytes: statSync(join(dir, path)).size }));
  return { dir, files };
}

async function bundle(root: string): Promise<void> {
  const outdir = join(root, "dist");
  rmSync(outdir, { recursive: true, force: true });
  const entryPoints = Object.fromEntries(
    Object.entries(ENTRIES).map(([name, file]) => [name, join(root, file)]),
  );
  await build({
    absWorkingDir: root,
    entryPoints,
    outdir,
    bundle: true,
    platform: "node",
    target: "node22",
    format: "esm",
    splitting: true,
    chunkNames: "chunks/[name]-[hash]",
    external: EXTERNAL,
    banner: { js: BANNER },
    minify: false, // half the size, but no faster start, and a crash that prints one line of 60 KB
    sourcemap: true,
    sourcesContent: false,
    logLevel: "warning",
  });
}

/** As the deployment tools do: every file that `.funcignore` leaves; a folder that it names is not entered. */
function deployedFiles(root: string): string[] {
  const ignored = ignore().add(readFileSync(join(root, ".funcignore"), "utf8"));
  const below = (folder: string): string[] =>
    readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
      const path = `${folder}${entry.name}`;
      if (entry.isDirectory()) return ignored.ignores(`${path}/`) ? [] : below(`${path}/`);
      return ignored.ignores(path) ? [] : [path];
    });
  const deployed = below("");
  for (const needed of ["host.json", "package.json", "dist/main.js"]) {
    if (!deployed.includes(needed)) {
      throw new StartError(`${needed} is missing from the package; see .funcignore`);
    }
  }
  return deployed;
}

function copyInto(dir: string, root: string, path: string): void {
  mkdirSync(dirname(join(dir, path)), { recursive: true });
  cpSync(join(root, path), join(dir, path));
}

function writePackageJson(root: string, dir: string): void {
  const full = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Record<
    string,
    unknown
  >;
  const kept = Object.fromEntries(KEPT_FIELDS.map((field) => [field, full[field]]));
  writeFileSync(join(dir, "package.json"), `${JSON.stringify(kept, null, 2)}\n`);
}

function listFiles(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(dir, join(entry.parentPath, entry.name)).split(sep).join("/"));
}
