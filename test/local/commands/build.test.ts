import { spawnSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BuiltPackage, buildPackage } from "../../../local/build-package.ts";
import { readDocument } from "../../../src/lib/documents/read/read-document.ts";
import { msgOf } from "../../support/document-fixtures/compound-files.ts";
import {
  docxOf,
  inlineRows,
  wordParagraph,
  xlsxOf,
} from "../../support/document-fixtures/office.ts";
import { pdfOf, scannedPdf } from "../../support/document-fixtures/pdfs.ts";
import { textOf } from "../../support/document-fixtures/read-world.ts";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const NEEDED = ["src", "host.json", "package.json", "tsconfig.json", ".funcignore"];
/** What lies around in a checkout and must not be deployed. */
const STRAY = [
  ".env",
  "local.settings.json",
  "local.settings.example.json",
  "README.md",
  "test/a.test.ts",
  "local/start.ts",
  "docs/host.json",
  ".local/pglite/base",
];

describe("the package that is deployed", () => {
  const checkout = mkdtempSync(join(tmpdir(), "worker-service-build-"));
  const deployed = mkdtempSync(join(tmpdir(), "worker-service-deployed-"));
  let built: BuiltPackage;

  beforeAll(async () => {
    for (const name of NEEDED) cpSync(join(ROOT, name), join(checkout, name), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(checkout, "node_modules"));
    for (const path of STRAY) {
      mkdirSync(join(checkout, path, ".."), { recursive: true });
      writeFileSync(join(checkout, path), "SECRET");
    }
    built = await buildPackage(checkout);
    cpSync(built.dir, deployed, { recursive: true }); // where no node_modules is in any folder above
  });
  afterAll(() => {
    rmSync(checkout, { recursive: true });
    rmSync(deployed, { recursive: true });
  });

  test("holds host.json, package.json and the bundle, and nothing else", () => {
    const outside = built.files.map(({ path }) => path).filter((path) => !path.startsWith("dist/"));
    const entries = built.files
      .map(({ path }) => path)
      .filter((path) => /^dist\/[^/]+$/.test(path));
    const rest = built.files.filter(
      ({ path }) => path.startsWith("dist/chunks/") && !/\.js(\.map)?$/.test(path),
    );
    expect(outside).toEqual(["host.json", "package.json"]);
    expect(entries.sort()).toEqual(
      ["document-reader", "main", "producer"].flatMap((name) => [
        `dist/${name}.js`,
        `dist/${name}.js.map`,
      ]),
    );
    expect(rest).toEqual([]);
  });

  test("has a package.json without dependencies, because everything is in the bundle", () => {
    const reduced = JSON.parse(readFileSync(join(deployed, "package.json"), "utf8")) as object;
    expect(Object.keys(reduced)).toEqual(["name", "version", "type", "main", "engines"]);
    expect(reduced).toMatchObject({ type: "module", main: "dist/main.js" });
  });

  test("loads without node_modules, up to the point where it misses its settings", () => {
    const script = "await import('./dist/main.js')";
    const run = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
      cwd: deployed,
      env: { PATH: process.env["PATH"] },
      encoding: "utf8",
    });
    expect(run.stderr).toMatch(/The configuration is not valid/);
    expect(run.stderr).toMatch(/SUPABASE_URL: is missing/);
  });

  test("offers the producer client beside the functions", () => {
    const script = "console.log(typeof (await import('./dist/producer.js')).connectUsageProducer)";
    const run = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
      cwd: deployed,
      encoding: "utf8",
    });
    expect(run.stdout.trim()).toBe("function");
  });

  test.each(Object.entries(documents()))(
    "reads a document of type %s in a process of its own",
    async (type, bytes) => {
      const path = join(deployed, `document.${type}`);
      writeFileSync(path, await bytes);
      const document = await readDocument({
        path,
        name: `a.${type}`,
        signal: new AbortController().signal,
        entry: join(deployed, "dist/document-reader.js"),
      });
      expect(textOf(document)).toContain("Hola");
    },
  );

  test("says that the recognition of scans is not in the package", async () => {
    const path = join(deployed, "scan.pdf");
    writeFileSync(path, scannedPdf(8, 8, new Uint8Array(64)));
    const reading = readDocument({
      path,
      name: "scan.pdf",
      ocr: { languages: ["spa"], pagesMax: 1 },
      signal: new AbortController().signal,
      entry: join(deployed, "dist/document-reader.js"),
    });
    await expect(reading).rejects.toMatchObject({ code: "document_ocr_unavailable" });
  });

  test("has source maps that lead to the sources without holding them", () => {
    const map = JSON.parse(readFileSync(join(deployed, "dist/main.js.map"), "utf8")) as {
      sources: string[];
      sourcesContent?: unknown;
    };
    expect(map.sources.some((source) => source.endsWith("src/main.ts"))).toBe(true);
    expect(map.sourcesContent).toBeUndefined();
  });
});

/** One of each reader, so that what it loads is in the bundle. */
function documents(): Record<string, string | Uint8Array | Promise<Uint8Array>> {
  return {
    pdf: pdfOf([[{ text: "Hola", y: 700 }]]),
    docx: docxOf(wordParagraph("Hola")),
    xlsx: xlsxOf([{ name: "S", rows: inlineRows([["Hola"]]) }]),
    html: "<!doctype html><p>Hola</p>",
    md: "# Hola",
    csv: "Hola,a",
    eml: "From: a@example.com\r\nMIME-Version: 1.0\r\nSubject: Hola\r\n\r\nHola",
    msg: msgOf({ subject: "Hola", body: "Hola" }),
  };
}

test("a .funcignore that leaves out what the platform needs stops the build", async () => {
  const checkout = mkdtempSync(join(tmpdir(), "worker-service-build-"));
  for (const name of NEEDED) cpSync(join(ROOT, name), join(checkout, name), { recursive: true });
  symlinkSync(join(ROOT, "node_modules"), join(checkout, "node_modules"));
  writeFileSync(join(checkout, ".funcignore"), "/*\n!/dist/\n");
  await expect(buildPackage(checkout)).rejects.toThrow("host.json is missing from the package");
  rmSync(checkout, { recursive: true });
});
