import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createLogger, type LogLevel, redact } from "../../src/lib/runtime/logger.ts";

function record(common = {}) {
  const lines: { level: LogLevel; line: string }[] = [];
  const log = createLogger((level, line) => void lines.push({ level, line }), common);
  return { log, lines, fields: () => JSON.parse(lines.at(-1)?.line ?? "null") };
}

describe("a line", () => {
  test("is one line of JSON with the event first, then the common fields, then its own", () => {
    const { log, lines } = record({ function: "f", runId: "r" });
    log.warn("shard_slow", { text: "two\nlines", shard: 3 });
    expect(lines).toEqual([
      {
        level: "warn",
        line: '{"event":"shard_slow","function":"f","runId":"r","text":"two\\nlines","shard":3}',
      },
    ]);
  });

  test("keeps event and common fields when a field has the same name", () => {
    const { log, fields } = record({ runId: "r" });
    log.info("done", { event: "forged", runId: "forged", shard: 1 });
    expect(fields()).toEqual({ event: "done", runId: "r", shard: 1 });
  });

  test.each(["info", "warn", "error"] as const)("has the level %s of the method", (level) => {
    const { log, lines } = record();
    log[level]("done");
    expect(lines[0]?.level).toBe(level);
  });

  test("survives a cycle", () => {
    const { log, fields } = record();
    const cycle: Record<string, unknown> = { name: "a" };
    cycle["self"] = cycle;
    log.info("done", { cycle });
    expect(fields().cycle.self.self.name).toBe("a");
    expect(JSON.stringify(fields())).toContain("[deep]");
  });

  test("stays small when every field leads back to all others", () => {
    const { log, lines } = record();
    const wide: Record<string, unknown> = {};
    for (let index = 0; index < 50; index++) wide[`f${index}`] = wide;
    log.info("done", wide);
    expect(lines[0]?.line.length).toBeLessThan(20_000);
  });

  test("is written without its fields when one of them cannot be read", () => {
    const { log, fields } = record();
    const trap = {
      get broken() {
        throw new Error("no");
      },
    };
    log.error("run_failed", { trap, shard: 1 });
    expect(fields()).toEqual({ event: "run_failed", unreadable: ["trap", "shard"] });
  });

  test("is valid JSON within its bound whatever the fields are", () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.string(),
          fc.anything({
            withBigInt: true,
            withDate: true,
            withMap: true,
            withSet: true,
            withTypedArray: true,
            withNullPrototype: true,
          }),
        ),
        (given) => {
          const { log, lines } = record();
          log.info("done", given);
          const line = lines[0]?.line ?? "";
          expect(line).not.toContain("\n");
          expect(JSON.parse(line).event).toBe("done");
        },
      ),
    );
  });
});

describe("a value", () => {
  test.each([
    [12n, "12"],
    [Number.NaN, "NaN"],
    [Number.POSITIVE_INFINITY, "Infinity"],
    [new Date(0), "1970-01-01T00:00:00.000Z"],
    [new Date(Number.NaN), "Invalid Date"],
    [new TypeError("bad value"), "TypeError: bad value"],
    [Buffer.from("secret"), "[6 bytes]"],
    [new Map([["a", 1]]), { a: 1 }],
    [new Set([1, 2]), [1, 2]],
    [Symbol("s"), "Symbol(s)"],
    [null, null],
    [true, true],
    [-1.5, -1.5],
  ])("%o becomes %j", (value, expected) => {
    expect(redact({ value })).toEqual({ value: expected });
  });

  test("that is a long text is cut and says so", () => {
    const text = redact("x".repeat(5000)) as string;
    expect(text).toBe(`${"x".repeat(1000)}[cut]`);
  });

  test("that is a long list says how many are left out", () => {
    const items = redact(Array.from({ length: 80 }, (_, index) => index)) as unknown[];
    expect(items).toHaveLength(51);
    expect(items.at(-1)).toBe("[30 more]");
  });

  test("deeper than four levels is left out", () => {
    expect(redact({ a: { b: { c: { d: { e: 1 } } } } })).toEqual({
      a: { b: { c: { d: "[deep]" } } },
    });
  });

  test("of many long texts fills the line only so far", () => {
    const texts = Array.from({ length: 50 }, () => "x".repeat(900));
    expect(JSON.stringify(redact({ texts })).length).toBeLessThan(18_000);
  });
});

describe("a field name", () => {
  test.each([
    "token",
    "accessToken",
    "access_token",
    "UPSTASH_REDIS_REST_TOKEN",
    "IDToken",
    "password",
    "dbPassword",
    "clientSecret",
    "authorization",
    "Authorization",
    "set-cookie",
    "apiKey",
    "api_key",
    "x-api-key",
    "x-functions-key",
    "AccountKey",
    "SUPABASE_KEY",
    "masterKey",
    "clientState",
    "connectionString",
    "redis.password",
    "credential",
    "signature",
    "subject",
    "mail.subject",
    "body",
    "htmlBody",
    "email",
    "senderEmail",
    "emailAddress",
    "replyAddress",
  ])("%s never shows what it holds", (name) => {
    for (const value of ["hunter2", 123456, ["hunter2"], { inner: "hunter2" }]) {
      expect(redact({ [name]: value })).toEqual({ [name]: "[redacted]" });
      expect(redact({ outer: [{ [name]: value }] })).toEqual({ outer: [{ [name]: "[redacted]" }] });
    }
  });

  test.each(["tokens", "emails", "bodies", "addresses", "subjects", "refreshTokens"])(
    "%s shows a count and nothing else",
    (name) => {
      expect(redact({ [name]: 1200 })).toEqual({ [name]: 1200 });
      expect(redact({ [name]: "-90071992547409930" })).toEqual({ [name]: "-90071992547409930" });
      expect(redact({ [name]: 5n })).toEqual({ [name]: "5" });
      expect(redact({ [name]: ["hunter2"] })).toEqual({ [name]: "[redacted]" });
      expect(redact({ [name]: "hunter2" })).toEqual({ [name]: "[redacted]" });
    },
  );

  test.each([
    "tokenCount",
    "tokensLost",
    "key",
    "keys",
    "tenant",
    "code",
    "bodyBytes",
    "keyIndex",
    "monkey",
    "somebody",
  ])("%s is an ordinary name", (name) => {
    expect(redact({ [name]: "value" })).toEqual({ [name]: "value" });
  });
});

describe("a text", () => {
  const JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N";
  test.each([
    ["Bearer abc.def", "abc.def"],
    ["header Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"],
    [`token was ${JWT}`, "eyJ"],
    [`cut ${JWT.slice(0, 40)}`, "eyJ"],
    ["DefaultEndpointsProtocol=https;AccountName=a;AccountKey=c2VjcmV0==;X=y", "c2VjcmV0"],
    ["https://a.queue.core.windows.net/q?sv=1&sig=abc%2Fdef&se=2", "abc"],
    ["SharedAccessSignature=sv=1&sig=zzz", "zzz"],
    ["https://host/api/f?code=hostkey123==", "hostkey123"],
    ["https://login/?client_secret=hunter2&x=1", "hunter2"],
    ["Server=db;Password=hunter2;", "hunter2"],
    ["key sb_secret_N7UND0Ugj and", "N7UND0Ugj"],
    ["key wsk_local_development_only", "local_development"],
    ["model key sk-proj-abcdefghijklmnop123", "abcdefghijklmnop"],
    ["connect redis://default:p4ss/word@host:6379", "p4ss"],
    ["connect rediss://:p4ss@host", "p4ss"],
    ["connect postgres://user:p4ss@host/db", "p4ss"],
    ["https://hooks.slack.com/services/T0/B0/xyz", "xyz"],
    ["https://acme.webhook.office.com/webhookb2/xyz", "xyz"],
    ["from maria.garcia+x@ejemplo.co.es to", "garcia"],
    ["from josé.núñez@compañía.es to", "núñez"],
    ["from ñ@ejemplo.es", "ñ"],
  ])("%j hides %j", (text, secret) => {
    expect(redact(text)).not.toContain(secret);
    expect(redact(text)).toContain("[redacted]");
    expect(redact(new Error(text))).not.toContain(secret);
  });

  test.each([
    "node_modules/@azure/functions@4.16.5/dist/index.js",
    "tokens=12",
    "http://127.0.0.1:54321/rest/v1/rpc/ping",
    "redis://127.0.0.1:6379",
    "anchor 6dbcf892-fc24@1795325400000000",
    "task-management-of-long-names",
    "design=modern",
    "bearing: 12",
  ])("%j stays as it is", (text) => {
    expect(redact(text)).toBe(text);
  });

  test("hides a secret that the cut would halve", () => {
    const text = `${"x".repeat(950)} redis://user:${"s3cret".repeat(20)}@host`;
    expect(redact(text)).not.toContain("s3cret");
  });

  test.each(["a", "eyJ", "a.", "@", "key=", "a@b.", "x://", "redis://", "á", "Bearer "])(
    "made of many %j takes no time",
    (part) => {
      const startedAt = performance.now();
      for (let round = 0; round < 20; round++) redact(part.repeat(4000));
      expect((performance.now() - startedAt) / 20).toBeLessThan(50);
    },
  );
});
