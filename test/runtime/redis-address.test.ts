import { inspect } from "node:util";
import { expect, test } from "vitest";
import { connectRedis } from "../../src/lib/runtime/connect.redis.ts";
import { parseRedisAddress } from "../../src/lib/runtime/redis-address.redis.ts";

const single = { isCluster: false, isTls: false, db: 0 };

test.each([
  ["redis://cache", { ...single, nodes: [{ host: "cache", port: 6379 }] }],
  ["redis://cache:6380/2", { ...single, nodes: [{ host: "cache", port: 6380 }], db: 2 }],
  ["redis://[::1]:6379", { ...single, nodes: [{ host: "::1", port: 6379 }] }],
  [
    "rediss://app:p%40ss@cache:6380",
    {
      ...single,
      nodes: [{ host: "cache", port: 6380 }],
      isTls: true,
      username: "app",
      password: "p@ss",
    },
  ],
  ["redis://:pass@cache", { ...single, nodes: [{ host: "cache", port: 6379 }], password: "pass" }],
  [
    "redis://one?cluster=true",
    { ...single, nodes: [{ host: "one", port: 6379 }], isCluster: true },
  ],
  [
    "redis://:p,w@one:1, redis://two:2",
    {
      ...single,
      nodes: [
        { host: "one", port: 1 },
        { host: "two", port: 2 },
      ],
      isCluster: true,
      password: "p,w",
    },
  ],
])("%s is read", (text, expected) => {
  expect(parseRedisAddress(text)).toEqual(expected);
});

test.each([
  "",
  "cache:6379",
  "http://secret-host",
  "redis://",
  "redis://:secret-pass@cache:notaport",
  "redis://:secret-pass@cache/orders",
  "cache.example:6380,password=secret-pass,ssl=True",
])("%j is refused without repeating it", (text) => {
  let error: unknown;
  try {
    parseRedisAddress(text);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toMatchObject({
    kind: "permanent",
    code: "config_invalid",
    details: { field: "REDIS_URL" },
  });
  expect(inspect(error, { depth: 10, showHidden: true })).not.toContain("secret-");
});

test("the URL of a Redis wins over Upstash, and nothing is connected before the first call", async () => {
  const upstash = { url: "https://none.upstash.io", token: "t" };
  const both = connectRedis({ redisUrl: "redis://redis.invalid", upstash });
  const rest = connectRedis({ upstash });
  expect([both.kind, rest.kind]).toEqual(["ioredis", "upstash"]);
  await Promise.all([both.close(), rest.close()]);
});

test("no Redis at all is a fault of the configuration", () => {
  expect(() => connectRedis({})).toThrowError(
    expect.objectContaining({ kind: "permanent", code: "config_invalid" }),
  );
});
