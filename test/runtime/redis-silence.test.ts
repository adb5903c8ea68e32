import type { AddressInfo } from "node:net";
import { connect, createServer, type Server, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import type { RedisDriver } from "../../src/lib/kernel/redis.ts";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { openRedis, type TestRedis } from "../support/stack.ts";

/** A network in front of Redis that can lose the connections it carries without telling either side. */
interface Network {
  readonly url: string;
  /** From now on nothing passes on the connections that exist; new ones work. */
  loseConnections(): void;
  /** New connections are accepted and carry nothing, until `heal`. */
  swallowNew(): void;
  heal(): void;
  connections(): number;
  close(): void;
}

async function openNetwork(port: number): Promise<Network> {
  const sockets = new Set<Socket>();
  let swallows = false;
  const server: Server = createServer((client) => {
    sockets.add(client.on("error", () => {}).on("close", () => sockets.delete(client)));
    if (swallows) return;
    const redis = connect(port, "127.0.0.1").on("error", () => {});
    client.pipe(redis).pipe(client);
    client.on("close", () => redis.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    loseConnections: () => {
      for (const socket of sockets)
        socket
          .unpipe()
          .removeAllListeners("end")
          .on("data", () => {});
    },
    swallowNew: () => {
      swallows = true;
    },
    heal: () => {
      swallows = false;
    },
    connections: () => sockets.size,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

const CALL_MS = 200;
const signal = () => AbortSignal.timeout(20_000);
const unavailable = { kind: "transient", code: "redis_unavailable", details: { code: "TIMEOUT" } };

let backend: TestRedis;
let network: Network;
let redis: RedisDriver;
const get = (ms = 20_000) =>
  redis.command(["GET", "k"], AbortSignal.timeout(ms)).catch((error: unknown) => error);

beforeAll(async () => {
  backend = await openRedis();
});
afterAll(() => backend.close());
beforeEach(async () => {
  network = await openNetwork(backend.port);
  redis = createIoredisDriver({ url: network.url, timeoutMs: CALL_MS });
  // The first call also loads the client, which may take longer than the limit.
  await vi.waitFor(() => redis.command(["SET", "k", "42"], signal()), { timeout: 5000 });
});
afterEach(async () => {
  await redis.close();
  network.close();
});

test("a connection that died without a word is replaced after one limit, and the next call works", async () => {
  network.loseConnections();
  expect(await get()).toMatchObject(unavailable);
  await expect.poll(() => get(), { timeout: 2000, interval: 10 }).toBe("42");
});

test("short deadlines of the callers do not keep a dead connection alive", async () => {
  network.loseConnections();
  const deadlines = Array.from({ length: 10 }, () => CALL_MS / 4);
  const answers: unknown[] = [];
  for (const ms of deadlines) answers.push(await get(ms));
  expect(answers).toContain("42");
});

test("a Redis that is busy for longer than the limit fails the call, and the next call works", async () => {
  const busy = redis.command(["EVAL", SLOW, "0"], signal()).catch((error: unknown) => error);
  expect(await busy).toMatchObject(unavailable);
  await expect.poll(() => get(), { timeout: 2000, interval: 10 }).toBe("42");
});

/** Keeps Redis busy for longer than the limit of a call. */
const SLOW = `
  local started = redis.call('TIME')
  local function elapsed(now) return (now[1] - started[1]) * 1000 + (now[2] - started[2]) / 1000 end
  repeat until elapsed(redis.call('TIME')) > ${CALL_MS * 1.5}`;

test("a peer that accepts and says nothing fails the calls in time, and is left when it heals", async () => {
  network.swallowNew();
  network.loseConnections();
  for (let i = 0; i < 3; i++) expect(await get(CALL_MS)).toMatchObject({ kind: "transient" });
  network.heal();
  await expect.poll(() => get(), { timeout: 3000, interval: 10 }).toBe("42");
});

test("many callers share one connection, also while it is replaced", async () => {
  network.loseConnections();
  await get();
  await Promise.all(Array.from({ length: 50 }, () => get()));
  await expect.poll(() => network.connections(), { timeout: 2000, interval: 10 }).toBe(1);
});
