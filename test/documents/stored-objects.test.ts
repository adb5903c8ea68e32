import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BlobServiceClient } from "@azure/storage-blob";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { faultOfObject } from "../../src/lib/documents/object-path.ts";
import { fetchObject } from "../../src/lib/documents/stored-object.ts";
import { azureObjects } from "../../src/lib/documents/stored-objects.storage.ts";
import { supabaseObjects } from "../../src/lib/documents/stored-objects.supabase.ts";
import { type ObjectStore, storedObjects } from "../../src/lib/documents/stored-objects.ts";
import { sha256 } from "../support/http-shell.ts";
import { openQueues } from "../support/stack.ts";

const signal = new AbortController().signal;
const workspace = randomUUID();
const CONTENT = "El contenido, con eñe. ".repeat(5000);
const NAME = "carpeta/Política 100% & más #1?.txt";

let folder: string;
let azure: ObjectStore;
let supabase: ObjectStore;
let server: Server;
/** What the Storage API of Supabase answers to the next request, in its own words. */
let answer: (path: string) => { status: number; body: string; length?: number };
let asked: { path: string; authorization: string | undefined }[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "objects-"));
  const { connectionString } = await openQueues();
  const service = BlobServiceClient.fromConnectionString(connectionString);
  const container = service.getContainerClient("documents");
  await container.createIfNotExists();
  const bytes = Buffer.from(CONTENT);
  await container.getBlockBlobClient(`${workspace}/${NAME}`).upload(bytes, bytes.length);
  azure = azureObjects(connectionString);
  server = createServer((request, response) => {
    const path = decodeURIComponent(request.url ?? "");
    asked.push({ path, authorization: request.headers.authorization });
    const { status, body, length } = answer(path);
    response.writeHead(status, length === undefined ? {} : { "content-length": length });
    if (length === undefined) response.end(body);
    else response.write(body, () => response.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  supabase = supabaseObjects({ url, key: "the-service-role-key" });
});
afterAll(async () => {
  server.close();
  server.closeAllConnections();
  await rm(folder, { recursive: true });
});

const fetchInto = (
  storage: "azure" | "supabase",
  { name = NAME, bytesMax = 1_000_000, container = "documents" } = {},
) =>
  fetchObject(
    storedObjects({ azure, supabase }, ["documents"]),
    { storage, container, path: `${workspace}/${name}` },
    { path: join(folder, "content"), bytesMax },
    signal,
  );

describe.each(["azure", "supabase"] as const)("an object of %s", (storage) => {
  test("is fetched whole, whatever people call their files, with its hash", async () => {
    asked = [];
    answer = () => ({ status: 200, body: CONTENT });
    expect(await fetchInto(storage)).toEqual({
      bytes: Buffer.byteLength(CONTENT),
      sha256: sha256(CONTENT),
    });
    expect(await readFile(join(folder, "content"), "utf8")).toBe(CONTENT);
    if (storage === "supabase")
      expect(asked).toEqual([
        {
          path: `/storage/v1/object/authenticated/documents/${workspace}/${NAME}`,
          authorization: "Bearer the-service-role-key",
        },
      ]);
  });

  test("that is not there may come", async () => {
    answer = () => ({ status: 400, body: '{"statusCode":"404","error":"not_found"}' });
    await expect(fetchInto(storage, { name: "gone.txt" })).rejects.toMatchObject({
      code: "document_missing",
      kind: "transient",
    });
  });

  test("is not fetched beyond its limit", async () => {
    answer = () => ({ status: 200, body: CONTENT });
    await expect(fetchInto(storage, { bytesMax: 1000 })).rejects.toMatchObject({
      code: "document_too_large",
      kind: "permanent",
    });
  });

  test("is not fetched from a container that is not listed", async () => {
    asked = [];
    await expect(fetchInto(storage, { container: "azure-webjobs-secrets" })).rejects.toMatchObject({
      code: "document_object_refused",
    });
    expect(asked).toEqual([]);
  });
});

describe("Supabase Storage", () => {
  test("that breaks off in the middle is asked again", async () => {
    answer = () => ({ status: 200, body: "half", length: 1000 });
    await expect(fetchInto("supabase")).rejects.toMatchObject({
      code: "blob_unavailable",
      kind: "transient",
    });
  });

  test.each([
    [404, "document_missing", "transient"],
    [429, "blob_unavailable", "transient"],
    [503, "blob_unavailable", "transient"],
    [401, "blob_refused", "permanent"],
    [400, "blob_refused", "permanent"],
  ])("that answers %i means %s, %s", async (status, code, kind) => {
    answer = () => ({ status, body: "{}" });
    await expect(fetchInto("supabase")).rejects.toMatchObject({ code, kind });
  });

  test("that is away is no fault of the document, and its address is in no error", async () => {
    const away = supabaseObjects({ url: "http://127.0.0.1:1", key: "the-service-role-key" });
    const error = await away.open({ container: "documents", path: `${workspace}/a` }, signal).then(
      () => undefined,
      (reason) => reason,
    );
    expect(error).toMatchObject({ code: "blob_unavailable", kind: "transient" });
    expect(JSON.stringify(error)).not.toMatch(/127\.0\.0\.1|service-role/);
  });
});

test("a content that is shorter than declared is no document", async () => {
  const short: ObjectStore = {
    open: async () => ({
      bytes: 100,
      chunks: (async function* () {
        yield Buffer.from("short");
      })(),
    }),
  };
  const objects = storedObjects({ azure: short, supabase: short }, ["documents"]);
  const ref = { storage: "azure", container: "documents", path: `${workspace}/a` } as const;
  const file = { path: join(folder, "short"), bytesMax: 1000 };
  await expect(fetchObject(objects, ref, file, signal)).rejects.toMatchObject({
    code: "blob_unavailable",
    kind: "transient",
    details: { bytes: 5, declared: 100 },
  });
});

test("a fetch ends with its signal", async () => {
  const controller = new AbortController();
  const never: ObjectStore = {
    open: async () => ({
      bytes: undefined,
      chunks: (async function* () {
        yield Buffer.from("first");
        controller.abort(new Error("stop"));
        controller.signal.throwIfAborted();
      })(),
    }),
  };
  const objects = storedObjects({ azure: never, supabase: never }, ["documents"]);
  const ref = { storage: "azure", container: "documents", path: `${workspace}/a` } as const;
  const file = { path: join(folder, "aborted"), bytesMax: 100 };
  await expect(fetchObject(objects, ref, file, controller.signal)).rejects.toThrow("stop");
});

test.each([
  ["WS/a.pdf", undefined],
  ["WS/sub/folder/Año 2026 (final) & más.pdf", undefined],
  ["WS/..a/b..c", undefined],
  ["WS", "must begin with the workspace and a slash"],
  ["other/a.pdf", "must begin with the workspace and a slash"],
  ["WS/../other/a.pdf", "must not have empty parts, . or .."],
  ["WS/./a.pdf", "must not have empty parts, . or .."],
  ["WS//a.pdf", "must not have empty parts, . or .."],
  ["WS/a/", "must not have empty parts, . or .."],
  ["WS/a\\..\\b", "must not have backslashes or control characters"],
  ["WS/a\nb", "must not have backslashes or control characters"],
  ["WS/\u0000", "must not have backslashes or control characters"],
  ["WS/\ud800", "must not have backslashes or control characters"],
  [`WS/${"a".repeat(1024)}`, "must have at most 1024 characters"],
])("the path %j is judged: %s", (path, reason) => {
  const ref = { container: "documents", path: path.replace("WS", workspace) };
  expect(faultOfObject(ref, workspace, ["documents"])?.reason).toBe(reason);
});
