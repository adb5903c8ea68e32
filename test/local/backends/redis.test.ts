import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import {
  availableRedis,
  type RedisKind,
  type RedisOptions,
  type RunningRedis,
  startRedis,
} from "../../../local/backends/redis.ts";
import { RespConnection } from "../../../local/backends/resp-connection.ts";

const KINDS: RedisKind[] = [...new Set<RedisKind>(["js-redis-server", availableRedis()])];

describe.each(KINDS)("%s", (kind) => {
  const running: RunningRedis[] = [];
  afterEach(async () => {
    await Promise.all(running.splice(0).map((server) => server.kill()));
  });
  const start = async (options: RedisOptions = {}): Promise<RunningRedis> => {
    const server = await startRedis({ kind, ...options });
    running.push(server);
    return server;
  };
  const ask = async ({ port }: RunningRedis, ...command: string[]): Promise<string> => {
    const connection = new RespConnection(port);
    const [reply] = await connection.send([command]);
    connection.close();
    return String(reply);
  };

  test("two servers know nothing of each other", async () => {
    const [one, other] = await Promise.all([start(), start()]);
    await ask(one, "SET", "k", "v");
    expect(await ask(one, "GET", "k")).toBe("v");
    expect(await ask(other, "GET", "k")).toBe("null");
  });

  test("a frozen server answers when it thaws, and a frozen one can be stopped", async () => {
    const server = await start();
    server.freeze();
    const reply = ask(server, "PING");
    server.thaw();
    expect(await reply).toBe("PONG");
    server.freeze();
    await server.stop();
    expect(await server.ended).not.toBe("");
  });

  test("after a kill its port can be used again", async () => {
    const server = await start();
    await server.kill();
    const again = await start({ port: server.port });
    expect(await ask(again, "PING")).toBe("PONG");
  });

  test.runIf(kind === "redis-server")("data in a folder survives stop and start", async () => {
    const dir = mkdtempSync(join(tmpdir(), "worker-service-redis-"));
    const server = await start({ dir });
    await ask(server, "SET", "k", "kept");
    await server.stop();
    expect(await ask(await start({ dir }), "GET", "k")).toBe("kept");
    rmSync(dir, { recursive: true });
  });

  test.runIf(kind === "redis-server")("it never evicts", async () => {
    expect(await ask(await start(), "CONFIG", "GET", "maxmemory-policy")).toContain("noeviction");
  });
});

test("the embedded Redis is taken when asked for, or when the PATH has no redis-server", () => {
  const path = process.env["PATH"];
  expect(availableRedis({ WORKER_LOCAL_REDIS: "embedded", PATH: path })).toBe("js-redis-server");
  expect(availableRedis({ PATH: "/nowhere" })).toBe("js-redis-server");
});
