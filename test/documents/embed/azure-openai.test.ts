import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createAzureOpenAi } from "../../../src/lib/documents/embed/azure-openai.ts";
import {
  base64Of,
  embeddingOf,
  json,
  type Mishap,
  POISON,
  placeOf,
  refusal,
  startFakeAzureOpenAi,
} from "./fake-azure-openai.ts";

/** The adapter against a server that speaks the protocol; waits are noted and not waited. */
let service: Awaited<ReturnType<typeof startFakeAzureOpenAi>>;
let waits: number[];
const signal = new AbortController().signal;

beforeAll(async () => {
  service = await startFakeAzureOpenAi();
});
afterAll(() => service.close());
beforeEach(() => {
  service.reset();
  waits = [];
});

const embedder = (more: Partial<Parameters<typeof createAzureOpenAi>[0]> = {}) =>
  createAzureOpenAi({
    endpoint: service.url,
    deployment: "text-embedding-3-small",
    credentials: async () => ({ "api-key": "secret-key" }),
    tokensPerMinute: 100_000_000,
    clock: { now: () => 0 },
    sleep: async (ms) => void waits.push(ms),
    random: () => 0.5,
    ...more,
  });
const embed = (...texts: string[]) => embedder().embed(texts, signal);
const placesOf = (vectors: readonly (Float32Array | null)[]) =>
  vectors.map((vector) => (vector === null ? null : vector.findIndex((value) => value !== 0)));
const places = (...texts: string[]) => texts.map(placeOf);
const sizes = () => service.calls.map(({ input }) => input.length);

describe("a call", () => {
  test("asks for 1536 dimensions in base64 from the deployment, with the key", async () => {
    await embed("contrato");
    expect(service.calls).toMatchObject([
      {
        path: "/openai/deployments/text-embedding-3-small/embeddings?api-version=2024-10-21",
        headers: { "api-key": "secret-key" },
        input: ["contrato"],
        dimensions: 1536,
        encoding: "base64",
      },
    ]);
  });

  test("signs in with a bearer token where there is no key", async () => {
    const identity = embedder({ credentials: async () => ({ authorization: "Bearer token" }) });
    expect(placesOf(await identity.embed(["a"], signal))).toEqual(places("a"));
  });

  test("answers in the order of the texts, whatever order the service chose", async () => {
    service.next((response, asked) =>
      json(200, { data: asked.input.map(embeddingOf).reverse() })(response, asked),
    );
    expect(placesOf(await embed("uno", "dos", "tres"))).toEqual(places("uno", "dos", "tres"));
  });

  test("gives vectors of length 1, also when the service's are longer", async () => {
    const long = Buffer.from(Float32Array.from({ length: 1536 }, () => 3).buffer).toString(
      "base64",
    );
    service.next(json(200, { data: [{ index: 0, embedding: long }] }));
    const [vector] = await embed("a");
    expect(vector?.reduce((sum, value) => sum + value * value, 0)).toBeCloseTo(1, 5);
  });

  test("without texts asks for nothing", async () => {
    expect(await embed()).toEqual([]);
    expect(await embed("", " \n")).toEqual([null, null]);
    expect(service.calls).toEqual([]);
  });
});

describe("batches", () => {
  test("have at most 128 texts", async () => {
    const texts = Array.from({ length: 300 }, (_, i) => `texto ${i}`);
    expect(placesOf(await embed(...texts))).toEqual(places(...texts));
    expect(sizes()).toEqual([128, 128, 44]);
  });

  test("have at most 100,000 tokens", async () => {
    await embed(...Array.from({ length: 30 }, () => "contract ".repeat(8000)));
    expect(sizes()).toEqual([12, 12, 6]);
  });

  test("have no more tokens than the quota of a minute", async () => {
    const texts = Array.from({ length: 10 }, () => "contract ".repeat(4000));
    await embedder({ tokensPerMinute: 10_000 }).embed(texts, signal);
    expect(sizes()).toEqual([2, 2, 2, 2, 2]);
  });

  test("wait for the quota: ten seconds' worth at once, and the rest at its rate", async () => {
    const texts = Array.from({ length: 3 }, () => "contract ".repeat(6000));
    await embedder({ tokensPerMinute: 12_000 }).embed(texts, signal);
    expect(sizes()).toEqual([1, 1, 1]);
    const expected = [4, 10, 16].map((thousands) => (thousands * 1000) / 0.2);
    for (const [index, ms] of expected.entries())
      expect(Math.abs((waits[index] ?? 0) - ms)).toBeLessThan(100);
  });
});

describe("a text that the service refuses", () => {
  test("is null, and the others have their vectors", async () => {
    const texts = Array.from({ length: 20 }, (_, i) => (i === 13 ? `x ${POISON}` : `texto ${i}`));
    const found = placesOf(await embed(...texts));
    expect(found[13]).toBeNull();
    expect(found.filter((place) => place === null)).toHaveLength(1);
    expect(service.calls.length).toBeLessThanOrEqual(1 + 2 * 5);
  });

  test("is null when it is alone, or too long", async () => {
    expect(await embed(POISON)).toEqual([null]);
    const [first, second] = await embed("palabra ".repeat(9000).trim(), "corto");
    expect(first).toBeNull();
    expect(second).not.toBeNull();
  });

  test("is not tried again as it is", async () => {
    await embed(POISON);
    expect(sizes()).toEqual([1]);
    expect(waits).toEqual([]);
  });

  test("is the configuration when it is every one of many", async () => {
    const texts = Array.from({ length: 16 }, () => POISON);
    await expect(embed(...texts)).rejects.toMatchObject({
      kind: "permanent",
      code: "embedder_refused",
      details: { reason: "content_filter" },
    });
  });
});

describe("a service that is busy or away", () => {
  const busy = (headers: Record<string, string>) => refusal(429, "429", {}, headers);

  test.each([
    ["retry-after-ms", { "retry-after-ms": "2500", "retry-after": "9" }, 2500],
    ["retry-after in seconds", { "retry-after": "7" }, 7000],
    ["nothing: half of the first second, with half of the luck", {}, 500],
  ])("is asked again after the wait of %s", async (_name, headers, expected) => {
    service.next(busy(headers as Record<string, string>));
    expect(placesOf(await embed("a"))).toEqual(places("a"));
    expect(waits).toEqual([expected]);
  });

  test("is asked six times, with waits that double", async () => {
    service.next(...Array.from({ length: 6 }, () => refusal(503, "ServiceUnavailable")));
    await expect(embed("a")).rejects.toMatchObject({
      kind: "transient",
      code: "embedder_unavailable",
      details: { status: 503 },
    });
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000]);
    expect(service.calls).toHaveLength(6);
  });

  test("that asks for more than a minute is left to who schedules the work", async () => {
    service.next(busy({ "retry-after": "300" }));
    await expect(embed("a")).rejects.toMatchObject({
      code: "embedder_unavailable",
      details: { retryAfterMs: 300_000 },
    });
    expect(service.calls).toHaveLength(1);
  });

  const broken: [string, Mishap][] = [
    ["closes the connection", (response) => response.destroy()],
    [
      "closes it in the middle",
      (response) => {
        response.writeHead(200, { "content-length": "1000" });
        response.write('{"data":[{"ind', () => response.destroy());
      },
    ],
    ["cuts its reply", (response) => response.end('{"data":[{"index":0,"embe')],
    ["answers with a page", (response) => response.end("<html>busy</html>")],
    ["forgets a vector", json(200, { data: [] })],
    ["answers one text twice", json(200, { data: [embeddingOf("a", 0), embeddingOf("a", 0)] })],
    ["answers what nobody asked", json(200, { data: [embeddingOf("a", 5)] })],
    [
      "sends a vector of zeros",
      json(200, { data: [{ index: 0, embedding: Buffer.alloc(6144).toString("base64") }] }),
    ],
    [
      "sends what is no number",
      json(200, { data: [{ index: 0, embedding: Buffer.alloc(6144, 0xff).toString("base64") }] }),
    ],
  ];
  test.each(broken)("that %s is asked again", async (_name, mishap) => {
    service.next(mishap);
    expect(placesOf(await embed("a"))).toEqual(places("a"));
    expect(waits).toHaveLength(1);
  });

  test("does not hold a caller whose signal aborts", async () => {
    const controller = new AbortController();
    service.next(() => controller.abort()); // and never answers
    await expect(embedder().embed(["a"], controller.signal)).rejects.toMatchObject({
      code: "deadline_exceeded",
    });
  });
});

describe("a configuration that cannot work", () => {
  test.each([
    [401, "401", {}],
    [403, "AuthenticationTypeDisabled", {}],
    [404, "DeploymentNotFound", {}],
    [400, "invalid_request_error", { param: "dimensions" }],
    [400, "BadRequest", { message: "The api-version is not supported" }],
    [302, "Found", {}],
  ])(
    "status %i %s is refused at once, and never blamed on the texts",
    async (status, code, more) => {
      service.next(refusal(status, code, more, { location: "http://127.0.0.1:1/" }));
      await expect(embed("a", "b")).rejects.toMatchObject({
        kind: "permanent",
        code: "embedder_refused",
        details: { status, reason: code },
      });
      expect(service.calls).toHaveLength(1);
    },
  );

  test("a deployment of other dimensions is refused", async () => {
    service.next(json(200, { data: [{ index: 0, embedding: base64Of("a", 3072) }] }));
    await expect(embed("a")).rejects.toMatchObject({
      code: "embedder_refused",
      details: { reason: "dimensions", expected: 1536, got: 3072 },
    });
  });

  test("no error tells what the texts, the key or the message of the service were", async () => {
    const message = "secret-key cannot embed 'Juan Pérez'";
    service.next(refusal(401, "bad code with Juan", { message }));
    const error = await embed("Juan Pérez").catch((thrown: unknown) => thrown);
    expect(JSON.stringify([error, (error as Error).message])).not.toMatch(/Juan|secret-key/);
  });
});
