import { inspect } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { hasProgram, type OwnRedisServer, openRedisServer } from "./own-redis-server.ts";

const hasServer = hasProgram("redis-server");
if (!hasServer) console.info("No redis-server on the PATH: the login tests are left out.");

const signal = () => AbortSignal.timeout(20_000);

describe.skipIf(!hasServer)("the ioredis driver and a Redis that asks for a login", () => {
  let server: OwnRedisServer;
  beforeAll(async () => {
    server = await openRedisServer((port) => ["--port", `${port}`, "--requirepass", "right"]);
    const rights = ["on", ">p@ss, word", "~u:*", "+@all", "-config"];
    await runAs(":right@", ["ACL", "SETUSER", "producer", ...rights]);
  });
  afterAll(() => server.close());

  /** One command as the given user; what is before the address in the URL. */
  const runAs = async (login: string, command: readonly [string, ...string[]], database = "") => {
    const redis = createIoredisDriver({
      url: `redis://${login}127.0.0.1:${server.port}${database}`,
    });
    const startedAt = performance.now();
    try {
      return await redis.command(command, signal());
    } finally {
      await redis.close();
      expect(performance.now() - startedAt).toBeLessThan(1000);
    }
  };
  const refusal = (login: string, command: readonly [string, ...string[]] = ["GET", "u:1"]) =>
    runAs(login, command).then(
      (reply) => Promise.reject(new Error(`answered ${reply}`)),
      (error: unknown) => error,
    );
  const refused = (code: string) => ({
    kind: "permanent",
    code: "redis_refused",
    details: { code },
  });

  test("a password alone logs in the default user", async () => {
    expect(await runAs(":right@", ["SET", "u:1", "7"])).toBe("OK");
    expect(await runAs("default:right@", ["GET", "u:1"])).toBe("7");
  });

  test("a user's name and password are decoded from the URL", async () => {
    expect(await runAs("producer:p%40ss%2C%20word@", ["GET", "u:1"])).toBe("7");
  });

  test("the path names the database", async () => {
    expect(await runAs(":right@", ["SET", "only-in-3", "x"], "/3")).toBe("OK");
    expect(await runAs(":right@", ["GET", "only-in-3"])).toBeNull();
    expect(await runAs(":right@", ["GET", "only-in-3"], "/3")).toBe("x");
  });

  test("a wrong password is refused at once, and is not in the error", async () => {
    const error = await refusal(":secret-wrong@");
    expect(error).toMatchObject(refused("WRONGPASS"));
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain("secret-");
  });

  test("no login is refused at once", async () => {
    expect(await refusal("")).toMatchObject(refused("NOAUTH"));
  });

  test("a command or a key that the user may not touch is refused", async () => {
    const login = "producer:p%40ss%2C%20word@";
    expect(await refusal(login, ["CONFIG", "GET", "save"])).toMatchObject(refused("NOPERM"));
    expect(await refusal(login, ["GET", "other"])).toMatchObject(refused("NOPERM"));
  });
});
