import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "@upstash/redis";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { availableRedis, type RedisKind } from "../../../local/backends/redis.ts";
import { openRedis, type TestRedis } from "../../support/stack.ts";

const KINDS: RedisKind[] = [...new Set<RedisKind>(["js-redis-server", availableRedis()])];

describe.each(KINDS)("the Upstash bridge in front of %s", (kind) => {
  let server: TestRedis;
  let redis: Redis;

  beforeAll(async () => {
    server = await openRedis({ kind });
    redis = new Redis({ ...server.upstash, enableTelemetry: false });
  });
  beforeEach(() => server.flush());
  afterAll(() => server.close());

  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    fetch(`${server.upstash.url}${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${server.upstash.token}`, ...headers },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });

  test("values of every kind come back as they were written", async () => {
    await redis.set("text", "año nuevo ✓");
    await redis.set("object", { a: [1, "dos", null] });
    await redis.hset("hash", { n: 1, s: "x" });
    expect(await redis.get("text")).toBe("año nuevo ✓");
    expect(await redis.get("object")).toEqual({ a: [1, "dos", null] });
    expect(await redis.hgetall("hash")).toEqual({ n: 1, s: "x" });
    expect(await redis.get("absent")).toBeNull();
    expect(await redis.incrby("counter", 7)).toBe(7);
  });

  test("calls of one tick become one request and each gets its own answer", async () => {
    const writes = Array.from({ length: 50 }, (_, n) => redis.set(`k${n}`, n));
    expect(await Promise.all(writes)).toEqual(Array(50).fill("OK"));
    const reads = Array.from({ length: 50 }, (_, n) => redis.get(`k${n}`));
    expect(await Promise.all(reads)).toEqual(Array.from({ length: 50 }, (_, n) => n));
  });

  test("a pipeline goes on after a command that fails", async () => {
    const body = [
      ["SET", "a", "1"],
      ["INCR", "a"],
      ["LPUSH", "a", "x"],
      ["GET", "a"],
    ];
    const answers = (await (await post("/pipeline", body)).json()) as { error?: string }[];
    expect(answers).toMatchObject([{ result: "OK" }, { result: 2 }, {}, { result: "2" }]);
    expect(answers[2]?.error).toMatch(/^WRONGTYPE/);
  });

  test("a transaction runs all of its commands, or none when one is not a command", async () => {
    expect(await redis.multi().set("t", "1").incr("t").exec()).toEqual(["OK", 2]);
    const refused = await post("/multi-exec", [["SET", "t", "9"], ["NOSUCHCOMMAND"]]);
    expect(refused.status).toBe(400);
    expect(await redis.get("t")).toBe(2);
  });

  test("no call comes between the commands of a transaction", async () => {
    const increments = Array.from({ length: 20 }, () => redis.multi().incr("n").incr("n").exec());
    const strangers = Array.from({ length: 20 }, () => redis.incrby("m", 1));
    const pairs = (await Promise.all(increments)) as [number, number][];
    await Promise.all(strangers);
    expect(pairs.every(([first, second]) => second === first + 1)).toBe(true);
  });

  test("scripts take keys and arguments and answer lists, integers and null", async () => {
    const script = "return {KEYS[1], ARGV[1], redis.call('incr', KEYS[1]), false}";
    expect(await redis.eval(script, ["s"], ["ñ"])).toEqual(["s", "ñ", 1, null]);
    const sha = await redis.scriptLoad("return tonumber(ARGV[1]) * 2");
    expect(await redis.evalsha(sha, [], ["21"])).toBe(42);
    await expect(redis.evalsha("0".repeat(40), [], [])).rejects.toThrow(/NOSCRIPT/);
  });

  test("streams are written and read", async () => {
    const id = await redis.xadd("log", "1-0", { d: "a|b" });
    expect(id).toBe("1-0");
    expect(await redis.xrange("log", "-", "+")).toEqual({ "1-0": { d: "a|b" } });
  });

  test("every text is base64 when asked for, except a plain OK", async () => {
    await redis.set("text", "OK");
    const encoded = { "upstash-encoding": "base64" };
    const body = [
      ["SET", "x", "ñ"],
      ["GET", "x"],
      ["GET", "absent"],
      ["INCR", "n"],
      ["MGET", "text"],
    ];
    const answers = await (await post("/pipeline", body, encoded)).json();
    const base64 = (text: string) => Buffer.from(text).toString("base64");
    expect(answers).toEqual([
      { result: "OK" },
      { result: base64("ñ") },
      { result: null },
      { result: 1 },
      { result: [base64("OK")] },
    ]);
  });

  test("a command may stand in the path with the value as body", async () => {
    expect(await (await post("/set/a%20key", "the value")).json()).toEqual({ result: "OK" });
    expect(await redis.get("a key")).toBe("the value");
  });

  test("an error of one command has status 400 and its code word", async () => {
    await redis.set("text", "x");
    const answer = await post("/", ["HGET", "text", "f"]);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toEqual({ error: expect.stringMatching(/^WRONGTYPE/) });
  });

  test.each([
    ["a body that is not JSON", "/pipeline", "{"],
    ["an empty pipeline", "/pipeline", []],
    ["an empty command", "/", []],
    ["a blocking read", "/", ["XREAD", "BLOCK", "0", "STREAMS", "s", "$"]],
    ["a blocking list command", "/", ["BLPOP", "l", "0"]],
    ["a subscription", "/", ["SUBSCRIBE", "c"]],
    ["a transaction by hand", "/", ["MULTI"]],
  ])("%s is refused with 400", async (_, path, body) => {
    const answer = await post(path, body);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toEqual({ error: expect.stringMatching(/^ERR /) });
  });

  test("a wrong token and a missing one are 401", async () => {
    const url = `${server.upstash.url}/get/x`;
    const wrong = await fetch(url, { headers: { authorization: "Bearer nope" } });
    expect([wrong.status, await wrong.json()]).toEqual([401, { error: "Unauthorized" }]);
    expect((await fetch(url)).status).toBe(401);
    expect((await fetch(`${url}?_token=${server.upstash.token}`)).status).toBe(200);
  });

  test("a request over 10 MB is refused with 413", async () => {
    const answer = await post("/set/big", "x".repeat(10 * 1024 * 1024 + 1));
    expect(answer.status).toBe(413);
  });

  test("a Redis that is gone is 503, and the next call after its return works", async () => {
    await server.kill();
    const answer = await post("/pipeline", [["PING"]]);
    expect(answer.status).toBe(503);
    await server.restart();
    expect(await redis.ping()).toBe("PONG");
  });

  test("a frozen Redis keeps the caller waiting until it thaws", async () => {
    server.freeze();
    const late = redis.ping();
    const first = await Promise.race([late, sleep(100, "still waiting")]);
    server.thaw();
    expect(first).toBe("still waiting");
    expect(await late).toBe("PONG");
  });
});
