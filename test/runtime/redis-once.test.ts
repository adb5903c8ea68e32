import { afterEach, describe, expect, test } from "vitest";
import type { RedisDriver } from "../../src/lib/kernel/redis.ts";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { type FakeRedis, openFakeRedis } from "./fake-redis.ts";

const signal = () => AbortSignal.timeout(20_000);
const failure = (work: Promise<unknown>) => work.catch((error: unknown) => error);
const unavailable = { kind: "transient", code: "redis_unavailable" };

describe.each([
  ["one node", ""],
  ["a cluster", "?cluster=true"],
])("the ioredis driver on %s", (_, query) => {
  let fake: FakeRedis;
  let redis: RedisDriver;
  const open = async (answer: Parameters<typeof openFakeRedis>[0], timeoutMs?: number) => {
    fake = await openFakeRedis(answer);
    redis = createIoredisDriver({ url: `redis://127.0.0.1:${fake.port}${query}`, timeoutMs });
  };
  afterEach(async () => {
    await redis.close();
    fake.close();
  });
  const sent = (name: string) => fake.commands.filter(([command]) => command === name);

  test("a write whose answer is lost with the connection is not sent again", async () => {
    await open(([name]) => (name === "INCR" ? "hang-up" : "+PONG\r\n"));
    expect(await failure(redis.command(["INCR", "n"], signal()))).toMatchObject(unavailable);
    await expect.poll(() => failure(redis.command(["PING"], signal()))).toBe("PONG");
    expect(sent("INCR")).toHaveLength(1);
  });

  test("neither are the writes of a pipeline or a transaction", async () => {
    await open(([name]) => (name === "INCR" ? "hang-up" : "+QUEUED\r\n"));
    const writes = [
      ["INCR", "n"],
      ["SET", "n", "1"],
    ] as const;
    expect(await failure(redis.pipeline(writes, signal()))).toMatchObject(unavailable);
    expect(await failure(redis.transaction(writes, signal()))).toMatchObject(unavailable);
    await expect.poll(() => failure(redis.command(["PING"], signal()))).toBe("QUEUED");
    expect(sent("INCR")).toHaveLength(2);
  });

  test("what was answered before the connection was lost counts", async () => {
    await open(([name]) => (name === "INCR" ? "hang-up" : "+OK\r\n"));
    const commands = [
      ["SET", "n", "1"],
      ["INCR", "n"],
      ["SET", "n", "2"],
    ] as const;
    const answers = await redis.pipeline(commands, signal());
    expect(answers).toMatchObject(["OK", unavailable, unavailable]);
  });

  test("a connection that falls silent is left for a new one", async () => {
    let silent: number | undefined;
    const answer = ([name]: readonly string[], connection: number) => {
      if (name === "GET") silent ??= connection;
      return connection === silent ? "silence" : "+OK\r\n";
    };
    await open(answer, 200);
    const get = () => failure(redis.command(["GET", "k"], signal()));
    expect(await get()).toMatchObject({ ...unavailable, details: { code: "TIMEOUT" } });
    await expect.poll(get, { timeout: 3000, interval: 20 }).toBe("OK");
  });

  test("a node that became a replica fails the write, and is left for a new connection", async () => {
    let first: number | undefined;
    await open(([name], connection) => {
      if (name === "SET") first ??= connection;
      return connection === first
        ? "-READONLY You can't write against a read only replica.\r\n"
        : "+OK\r\n";
    });
    const set = () => failure(redis.command(["SET", "k", "v"], signal()));
    expect(await set()).toMatchObject({ ...unavailable, details: { code: "READONLY" } });
    await expect.poll(set, { timeout: 3000, interval: 20 }).toBe("OK");
  });

  test("an integer that the client rounded is refused", async () => {
    await open(() => ":9007199254740993\r\n");
    const error = await failure(redis.command(["INCR", "n"], signal()));
    expect(error).toMatchObject({ kind: "bug", code: "redis_reply_unexpected" });
  });

  test("bytes that are no reply end the call as transient", async () => {
    await open(() => "HTTP/1.1 400 Bad Request\r\n\r\n");
    expect(await failure(redis.command(["GET", "k"], signal()))).toMatchObject(unavailable);
  });
});
