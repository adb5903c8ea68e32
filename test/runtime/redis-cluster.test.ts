import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { freePort } from "../../local/backends/ports.ts";
import { type RedisDriver, redisScript } from "../../src/lib/kernel/redis.ts";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { hasProgram, type OwnRedisServer, openRedisServer } from "./own-redis-server.ts";

const hasServer = hasProgram("redis-server");
if (!hasServer) console.info("No redis-server on the PATH: the cluster tests are left out.");

const signal = () => AbortSignal.timeout(20_000);
const CALL_MS = 400;
const LAST_SLOT = 16_383;
/** Keys of slots 3300 and 15495. */
const [ON_FIRST, ON_SECOND] = ["b", "a"];

/** Two masters that share the slots: the protocol of a cluster without its failover. */
async function openCluster(): Promise<readonly [OwnRedisServer, OwnRedisServer]> {
  const options = (port: number) => ["--port", `${port}`, "--cluster-enabled", "yes"];
  const [first, second] = await Promise.all([openRedisServer(options), openRedisServer(options)]);
  const clients = [first, second].map(({ port }) => direct(port));
  const [one, two] = clients as [RedisDriver, RedisDriver];
  const half = LAST_SLOT >> 1;
  await one.command(["CLUSTER", "ADDSLOTSRANGE", "0", `${half}`], signal());
  await two.command(["CLUSTER", "ADDSLOTSRANGE", `${half + 1}`, `${LAST_SLOT}`], signal());
  await two.command(["CLUSTER", "SET-CONFIG-EPOCH", "2"], signal());
  await one.command(["CLUSTER", "MEET", "127.0.0.1", `${second.port}`], signal());
  const isComplete = async (client: RedisDriver) =>
    expect(await client.command(["CLUSTER", "INFO"], signal())).toContain("cluster_state:ok");
  for (const client of clients) {
    await vi.waitFor(() => isComplete(client), { timeout: 10_000, interval: 20 });
    await client.close();
  }
  return [first, second];
}

const direct = (port: number) => createIoredisDriver({ url: `redis://127.0.0.1:${port}` });

describe.skipIf(!hasServer)("the ioredis driver on a cluster", () => {
  let server: OwnRedisServer;
  let other: OwnRedisServer;
  let redis: RedisDriver;

  beforeAll(async () => {
    [server, other] = await openCluster();
    redis = createIoredisDriver({
      url: `redis://127.0.0.1:${server.port}?cluster=true`,
      timeoutMs: CALL_MS,
    });
  });
  afterAll(async () => {
    await redis.close();
    await Promise.all([server.close(), other.close()]);
  });

  test("single commands find their slot", async () => {
    expect(await redis.command(["SET", "a", "007"], signal())).toBe("OK");
    expect(await redis.command(["GET", "a"], signal())).toBe("007");
    expect(await redis.command(["PING"], signal())).toBe("PONG");
  });

  test("a pipeline over many slots answers each command at its place", async () => {
    const commands = Array.from({ length: 300 }, (_, i) => ["SET", `k${i}`, `${i}`] as const);
    expect(await redis.pipeline(commands, signal())).toEqual(Array(300).fill("OK"));
    const reads = Array.from({ length: 300 }, (_, i) => ["GET", `k${i}`] as const);
    const values = Array.from({ length: 300 }, (_, i) => `${i}`);
    expect(await redis.pipeline([...reads, ["PING"]], signal())).toEqual([...values, "PONG"]);
  });

  test("one command over two slots is refused, and its neighbours on both slots take effect", async () => {
    const answers = await redis.pipeline(
      [
        ["SET", "x", "1"],
        ["MGET", "x", "y"],
        ["SET", "y", "2"],
        ["GET", "x"],
      ],
      signal(),
    );
    const crossSlot = { kind: "permanent", code: "redis_refused", details: { code: "CROSSSLOT" } };
    expect(answers).toMatchObject(["OK", crossSlot, "OK", "1"]);
  });

  test("a transaction runs on the slot of its keys, and is refused over two", async () => {
    const [first, second] = ["{u:1}:m", "{u:1}:p"];
    const commands = [
      ["HSET", first, "n", "1"],
      ["XADD", second, "1-0", "d", "x"],
      ["HGET", first, "n"],
    ] as const;
    expect(await redis.transaction(commands, signal())).toEqual([1, "1-0", "1"]);
    const error = await redis
      .transaction(
        [
          ["SET", "x", "1"],
          ["SET", "y", "1"],
        ],
        signal(),
      )
      .catch((e) => e);
    expect(error).toMatchObject({
      kind: "permanent",
      code: "redis_refused",
      details: { code: "CROSSSLOT" },
    });
  });

  test("scripts over many slots run once each, also when the node forgot them", async () => {
    const script = redisScript("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])");
    await redis.command(["SCRIPT", "FLUSH"], signal());
    const calls = Array.from({ length: 1000 }, (_, i) => ({
      script,
      keys: [`{u:${i % 256}}:n`],
      args: ["1"],
    }));
    const answers = await redis.scripts(calls, signal());
    expect(answers.map(Number).reduce((sum, n) => sum + n, 0)).toBe(
      calls.reduce((sum, _, i) => sum + Math.floor(i / 256) + 1, 0),
    );
    expect(await redis.script({ script, keys: ["{u:0}:n"], args: ["1"] }, signal())).toBe(5);
  });

  test("a frozen node fails its calls by their deadline, the others go on, and it is used again after the thaw", async () => {
    const get = (key: string) =>
      redis.command(["EXISTS", `{${key}}:none`], signal()).catch((error) => error);
    expect(await Promise.all([get(ON_FIRST), get(ON_SECOND)])).toEqual([0, 0]);
    server.freeze();
    try {
      const startedAt = performance.now();
      for (let i = 0; i < 3; i++) {
        const [frozen, alive] = await Promise.all([get(ON_FIRST), get(ON_SECOND)]);
        expect(frozen).toMatchObject({ kind: "transient", code: "redis_unavailable" });
        expect(alive).toBe(0);
      }
      expect(performance.now() - startedAt).toBeLessThan(3 * 2 * CALL_MS);
    } finally {
      server.thaw();
    }
    await expect.poll(() => get(ON_FIRST), { timeout: 3000, interval: 25 }).toBe(0);
  });

  test("a cluster that went down is found again, and what was in flight is not sent twice", async () => {
    const key = `{${ON_FIRST}}:twice`;
    server.freeze();
    const doomed = redis.command(["INCR", key], signal()).catch((error) => error);
    await Promise.all([server.kill(), other.kill()]);
    const unavailable = { kind: "transient", code: "redis_unavailable" };
    expect(await doomed).toMatchObject(unavailable);
    for (let i = 0; i < 3; i++) {
      const call = redis.command(["GET", key], signal()).catch((error) => error);
      expect(await call).toMatchObject(unavailable);
    }
    await Promise.all([server.restart(), other.restart()]);
    const get = () => redis.command(["EXISTS", key], signal()).catch(() => undefined);
    // A master that comes back into a cluster refuses calls for 2 s by itself.
    await expect.poll(get, { timeout: 8000, interval: 25 }).toBe(0);
  });

  test("closing is quick while the cluster is away", async () => {
    const away = createIoredisDriver({
      url: `redis://127.0.0.1:${await freePort()}?cluster=true`,
    });
    const call = away.command(["PING"], signal()).catch((error) => error);
    expect(await call).toMatchObject({ kind: "transient", code: "redis_unavailable" });
    const startedAt = performance.now();
    await away.close();
    expect(performance.now() - startedAt).toBeLessThan(1000);
  });

  test("closing leaves no connection behind, and refuses later calls", async () => {
    const nodes = [server, other].map(({ port }) => `redis://127.0.0.1:${port}`);
    const observer = direct(other.port);
    const connections = async () => {
      const info = String(await observer.command(["INFO", "clients"], signal()));
      return Number(/connected_clients:(\d+)/.exec(info)?.[1]);
    };
    const before = await connections();
    const redis = createIoredisDriver({ url: nodes.join(",") });
    await redis.pipeline(
      [
        ["GET", ON_FIRST],
        ["GET", ON_SECOND],
      ],
      signal(),
    );
    expect(await connections()).toBeGreaterThan(before);
    await redis.close();
    const error = await redis.command(["PING"], signal()).catch((e) => e);
    expect(error).toMatchObject({ code: "redis_unavailable", details: { code: "CLOSED" } });
    await expect.poll(connections, { timeout: 2000, interval: 20 }).toBe(before);
    await observer.close();
  });
});
