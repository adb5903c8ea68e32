import { createHash, randomBytes, randomUUID } from "node:crypto";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { inspect } from "node:util";
import { BlobServiceClient } from "@azure/storage-blob";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { createBlobStore } from "../../src/lib/runtime/blob-store.storage.ts";
import { openQueues } from "../support/stack.ts";

const signal = () => AbortSignal.timeout(20_000);
const TEXT = { contentType: "text/plain" };
const PART = 1000;

let connectionString: string;
const containers: string[] = [];
beforeAll(async () => {
  ({ connectionString } = await openQueues());
});
afterAll(async () => {
  const service = BlobServiceClient.fromConnectionString(connectionString);
  await Promise.all(containers.map((name) => service.getContainerClient(name).deleteIfExists()));
});

function open() {
  const container = `blobs-${randomUUID().slice(0, 8)}`;
  containers.push(container);
  return createBlobStore({ connectionString, container, partBytes: PART });
}

/** Yields `bytes` in pieces of `size`. */
async function* pieces(bytes: Uint8Array, size: number) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function readAll(store: ReturnType<typeof open>, path: string): Promise<Buffer | undefined> {
  const content = await store.get(path, signal());
  if (content === undefined) return undefined;
  const chunks: Uint8Array[] = [];
  for await (const chunk of content.chunks) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe("the blob store", () => {
  test.each([
    ["in pieces smaller than a part", 3500, 7],
    ["in pieces larger than several parts", 12_345, 4700],
    ["of exactly two parts", 2 * PART, PART],
    ["of one byte", 1, 10],
  ])("a blob written %s comes back as it was", async (_, length, size) => {
    const store = open();
    const bytes = randomBytes(length);
    const written = await store.put("a/b.bin", pieces(bytes, size), TEXT, signal());
    expect(written).toEqual({
      bytes: length,
      sha256: createHash("sha256").update(bytes).digest("hex"),
    });
    expect(await readAll(store, "a/b.bin")).toEqual(bytes);
  });

  test("an empty blob is a blob", async () => {
    const store = open();
    expect(await store.put("empty", pieces(Buffer.alloc(0), 1), TEXT, signal())).toMatchObject({
      bytes: 0,
    });
    expect(await readAll(store, "empty")).toEqual(Buffer.alloc(0));
  });

  test("says what a blob is, and tells what is not there from a failure", async () => {
    const store = open();
    expect(await store.get("none", signal())).toBeUndefined(); // not even a container
    const options = { contentType: "application/x-ndjson", contentEncoding: "gzip" };
    await store.put("a", pieces(Buffer.from("abc"), 1), options, signal());
    expect(await store.get("none", signal())).toBeUndefined();
    const content = await store.get("a", signal());
    expect(content).toMatchObject({ bytes: 3, ...options });
    for await (const _ of content?.chunks ?? []) break;
  });

  test("a write that breaks off leaves what was there", async () => {
    const store = open();
    await store.put("a", pieces(Buffer.from("old"), 3), TEXT, signal());
    async function* broken() {
      yield randomBytes(2 * PART);
      throw new Error("the source broke");
    }
    await expect(store.put("a", broken(), TEXT, signal())).rejects.toThrow("the source broke");
    expect((await readAll(store, "a"))?.toString()).toBe("old");
    await store.put("a", pieces(Buffer.from("new"), 3), TEXT, signal());
    expect((await readAll(store, "a"))?.toString()).toBe("new");
  });

  test("two writers at once leave the whole blob of one of them, and the other may try again", async () => {
    const store = open();
    const blobs = [1, 2].map((byte) => Buffer.alloc(5 * PART, byte));
    const writes = blobs.map((bytes) => store.put("a", pieces(bytes, 300), TEXT, signal()));
    const outcomes = await Promise.allSettled(writes);
    expect(outcomes.some(({ status }) => status === "fulfilled")).toBe(true);
    for (const outcome of outcomes)
      if (outcome.status === "rejected")
        expect(outcome.reason).toMatchObject({ kind: "transient" });
    const left = await readAll(store, "a");
    expect(blobs.some((bytes) => left?.equals(bytes))).toBe(true);
  });

  test("lists what begins with a prefix, page by page", async () => {
    const store = open();
    expect(await store.list("x/", { limit: 10 }, signal())).toEqual({ blobs: [], next: undefined });
    for (const path of ["x/1", "x/2", "x/3", "y/1"])
      await store.put(path, pieces(Buffer.from("abc"), 3), TEXT, signal());
    const first = await store.list("x/", { limit: 2 }, signal());
    expect(first.blobs.map(({ path, bytes }) => [path, bytes])).toEqual([
      ["x/1", 3],
      ["x/2", 3],
    ]);
    expect(Math.abs((first.blobs[0]?.modifiedAt ?? 0) - Date.now())).toBeLessThan(60_000);
    const second = await store.list("x/", { limit: 2, after: first.next }, signal());
    expect(second.blobs.map(({ path }) => path)).toEqual(["x/3"]);
    expect(second.next).toBeUndefined();
  });

  test("deletes once", async () => {
    const store = open();
    expect(await store.delete("a", signal())).toBe(false);
    await store.put("a", pieces(Buffer.from("abc"), 3), TEXT, signal());
    expect(await store.delete("a", signal())).toBe(true);
    expect(await store.delete("a", signal())).toBe(false);
    expect(await readAll(store, "a")).toBeUndefined();
  });

  test("a link reads the blob without a key until it expires, and nothing else", async () => {
    const store = open();
    await store.put("a", pieces(Buffer.from("abc"), 3), TEXT, signal());
    const link = await store.link("a", Date.now() + 60_000);
    expect(await (await fetch(link)).text()).toBe("abc");
    expect((await fetch(link, { method: "DELETE" })).status).toBe(403);
    expect((await fetch(link.replace("/a?", "/b?"))).status).toBe(403);
    expect((await fetch(await store.link("a", Date.now() - 60_000))).status).toBe(403);
  });

  test.each(["", "/a", "a/../b", "a//b", "a b", "a?b", "x".repeat(1001)])(
    "%j is no path of ours",
    async (path) => {
      await expect(open().get(path, signal())).rejects.toMatchObject({ kind: "bug" });
    },
  );

  test("a wrong key is refused, and no key is in the error", async () => {
    const key = Buffer.from("secret-key").toString("base64");
    const wrong = connectionString.replace(/AccountKey=[^;]+/, `AccountKey=${key}`);
    const store = createBlobStore({ connectionString: wrong, container: "any" });
    const error = await store.get("a", signal()).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      kind: "permanent",
      code: "blob_refused",
      details: { path: "a", status: 403 },
    });
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain(key);
  });
});

/** What the hosted service does and the embedded one does not. */
describe("the blob store when the service is in trouble", () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) {
      server.close();
      server.closeAllConnections();
    }
  });

  async function openService(listener: RequestListener) {
    const server = createServer(listener);
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const endpoint = `http://127.0.0.1:${port}/a`;
    return createBlobStore({
      connectionString: `DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;BlobEndpoint=${endpoint}`,
      container: "c",
      timeoutMs: 200,
    });
  }
  const timedOut = { kind: "transient", code: "blob_unavailable", details: { code: "TIMEOUT" } };

  test("a service that does not answer ends each call by its limit", async () => {
    const store = await openService(() => {});
    await expect(store.get("a", signal())).rejects.toMatchObject(timedOut);
    await expect(store.delete("a", signal())).rejects.toMatchObject(timedOut);
    await expect(store.list("a", { limit: 1 }, signal())).rejects.toMatchObject(timedOut);
    await expect(
      store.put("a", pieces(Buffer.from("abc"), 3), TEXT, signal()),
    ).rejects.toMatchObject(timedOut);
  });

  test("a stream that stalls in the middle ends by the limit of a chunk", async () => {
    const store = await openService((_, response) => {
      response.writeHead(200, {
        "content-length": "100",
        etag: '"x"',
        "last-modified": "Tue, 24 Nov 2026 10:00:00 GMT",
      });
      response.write("abc");
    });
    const content = await store.get("a", signal());
    const read = async () => {
      for await (const _ of content?.chunks ?? []);
    };
    await expect(read()).rejects.toMatchObject(timedOut);
  });
});
