import { inspect } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { freePort } from "../../local/backends/ports.ts";
import { availableRedis } from "../../local/backends/redis.ts";
import { AppError } from "../../src/lib/kernel/errors.ts";
import { type RedisCommand, type RedisDriver, redisScript } from "../../src/lib/kernel/redis.ts";
import { createIoredisDriver } from "../../src/lib/runtime/ioredis-driver.redis.ts";
import { createUpstashDriver } from "../../src/lib/runtime/upstash-driver.redis.ts";
import { openRedis, type TestRedis } from "../support/stack.ts";

type Open = (backend: TestRedis, timeoutMs?: number) => RedisDriver;

const drivers: Readonly<Record<RedisDriver["kind"], Open>> = {
  upstash: (backend, timeoutMs) => createUpstashDriver({ ...backend.upstash, timeoutMs }),
  ioredis: (backend, timeoutMs) => createIoredisDriver({ url: backend.url, timeoutMs }),
};

const unavailable = { kind: "transient", code: "redis_unavailable" };
const refused = { kind: "permanent", code: "redis_refused" };
const signal = () => AbortSignal.timeout(20_000);

/** The returned error, so that a test can look at everything it carries. */
const failure = (work: Promise<unknown>): Promise<AppError> =>
  work.then(
    (value) => Promise.reject(new Error(`succeeded with ${JSON.stringify(value)}`)),
    (error: unknown) => {
      expect(error).toBeInstanceOf(AppError);
      return error as AppError;
    },
  );

/** What a client that parses replies, or re-encodes them, gets wrong. */
const STRINGS = [
  "007",
  "1.5",
  "1e3",
  "12345678901234567890",
  "-0",
  "null",
  "true",
  "OK",
  "",
  " ",
  '{"a":1}',
  '"quoted"',
  "[1,2]",
  "line\r\nbreak\0zero",
  "ñandú 日本語 🧪 \u{1F468}\u200D\u{1F469}",
  "\uFEFFbyte order mark",
  "T0s=",
];

/** The embedded server always; the real one where there is one. */
const servers = [...new Set([availableRedis(), "js-redis-server" as const])];
const combinations = servers.flatMap((server) =>
  Object.entries(drivers).map(([kind, open]) => ({ kind, server, open })),
);

describe.each(combinations)("the $kind driver on $server", ({ kind, server, open }) => {
  let backend: TestRedis;
  let redis: RedisDriver;
  let serial = 0;
  const key = (name: string) => `{contract:${++serial}}:${name}`;
  const run = (...command: RedisCommand) => redis.command(command, signal());

  beforeAll(async () => {
    backend = await openRedis({ kind: server });
    redis = open(backend);
  });
  afterAll(async () => {
    await redis.close();
    await backend.close();
  });

  test("knows its kind", () => {
    expect(redis.kind).toBe(kind);
  });

  describe("replies", () => {
    test("a string comes back exactly as it was written, whatever the kind of call", async () => {
      const at = key("value");
      const names = STRINGS.map((_, i) => `${at}:${i}`);
      const writes = STRINGS.map((value, i) => ["SET", `${at}:${i}`, value] as const);
      const reads = names.map((name) => ["GET", name] as const);
      expect(await redis.pipeline(writes, signal())).toEqual(STRINGS.map(() => "OK"));
      expect(await redis.pipeline(reads, signal())).toEqual(STRINGS);
      expect(await redis.transaction(reads, signal())).toEqual(STRINGS);
      expect(await run("MGET", ...names)).toEqual(STRINGS);
      expect(await Promise.all(names.map((name) => run("GET", name)))).toEqual(STRINGS);
    });

    test("a long value survives", async () => {
      const value = "á".repeat(300_000);
      const at = key("long");
      await run("SET", at, value);
      expect(await run("GET", at)).toBe(value);
    });

    test("what is not there is null", async () => {
      expect(await run("GET", key("missing"))).toBeNull();
      expect(await run("HMGET", key("missing"), "a", "b")).toEqual([null, null]);
      expect(await run("XRANGE", key("missing"), "-", "+")).toEqual([]);
    });

    test("an integer reply is a number", async () => {
      const at = key("counter");
      expect(await run("INCRBY", at, "41")).toBe(41);
      expect(await run("INCR", at)).toBe(42);
      expect(await run("INCRBY", at, "-50")).toBe(-8);
    });

    test("an integer beyond 2^53 is refused instead of rounded, and its string is exact", async () => {
      const at = key("counter");
      expect(await run("INCRBY", at, "9007199254740991")).toBe(9007199254740991);
      const error = await failure(run("INCRBY", at, "2"));
      expect(error).toMatchObject({ kind: "bug", code: "redis_reply_unexpected" });
      expect(await run("GET", at)).toBe("9007199254740993");
      const [place] = await redis.pipeline(
        [
          ["INCR", at],
          ["GET", at],
        ],
        signal(),
      );
      expect(place).toMatchObject({ kind: "bug", code: "redis_reply_unexpected" });
    });

    test("a hash is the flat list that Redis sends, whatever the case of the command", async () => {
      const at = key("hash");
      await run("HSET", at, "a", "1", "b", "007", "__proto__", "x");
      const flat = ["a", "1", "b", "007", "__proto__", "x"];
      expect(await run("HGETALL", at)).toEqual(flat);
      expect(await run("hgetall", at)).toEqual(flat);
      expect(
        await redis.pipeline(
          [
            ["hgetall", at],
            ["hlen", at],
          ],
          signal(),
        ),
      ).toEqual([flat, 3]);
      expect(await redis.transaction([["hgetall", at]], signal())).toEqual([flat]);
    });

    test("stream entries are nested lists", async () => {
      const at = key("stream");
      await run("XADD", at, "1-0", "d", "0007|x");
      await run("XADD", at, "2-0", "d", "{}", "e", "");
      expect(await run("XRANGE", at, "-", "+", "COUNT", "10")).toEqual([
        ["1-0", ["d", "0007|x"]],
        ["2-0", ["d", "{}", "e", ""]],
      ]);
    });
  });

  describe("errors", () => {
    test("a command on the wrong type is refused by its code word, without the data", async () => {
      const at = key("secret-key");
      await run("SET", at, "secret-value");
      const error = await failure(run("LPUSH", at, "secret-argument"));
      expect(error).toMatchObject({ ...refused, details: { code: "WRONGTYPE" } });
      expectNoSecrets(error);
    });

    test("an unknown command is refused, without its arguments", async () => {
      const error = await failure(run("NOSUCHCOMMAND", "secret-argument"));
      expect(error).toMatchObject({ ...refused, details: { code: "ERR" } });
      expectNoSecrets(error);
    });

    test("an error reply of a script is refused by its own code word", async () => {
      const script = redisScript("fail", "return redis.error_reply('EUSAGE tokens are not whole')");
      const error = await failure(redis.script({ script, keys: [key("k")], args: [] }, signal()));
      expect(error).toMatchObject({ ...refused, details: { code: "EUSAGE" } });
      expect(error.details["message"]).toMatch(/^EUSAGE tokens are not whole/);
    });

    test("a script that breaks is refused", async () => {
      const script = redisScript("break", "return redis.call('LPUSH', KEYS[1], 'x')");
      const at = key("text");
      await run("SET", at, "text");
      const error = await failure(
        redis.script({ script, keys: [at], args: ["secret-argument"] }, signal()),
      );
      expect(error).toMatchObject(refused);
      expectNoSecrets(error);
    });

    test.each([
      [["SUBSCRIBE", "c"]],
      [["MULTI"]],
      [["select", "1"]],
      [["BLPOP", "list", "1"]],
      [["XREAD", "block", "1000", "STREAMS", "s", "$"]],
      [["WAIT", "1", "100"]],
    ] as [RedisCommand][])("%j is a bug on a shared connection", async (command) => {
      const bug = { kind: "bug", code: "invariant_broken" };
      expect(await failure(redis.command(command, signal()))).toMatchObject(bug);
      expect(await failure(redis.pipeline([command], signal()))).toMatchObject(bug);
      expect(await failure(redis.transaction([command], signal()))).toMatchObject(bug);
    });
  });

  describe("a pipeline", () => {
    test("answers each command at its place", async () => {
      const at = key("list");
      expect(
        await redis.pipeline(
          [
            ["RPUSH", at, "a", "b"],
            ["LRANGE", at, "0", "-1"],
            ["DEL", at],
          ],
          signal(),
        ),
      ).toEqual([2, ["a", "b"], 1]);
    });

    test("holds one failing command as an error at its place, and the others take effect", async () => {
      const [text, list] = [key("text"), key("list")];
      const answers = await redis.pipeline(
        [
          ["SET", text, "x"],
          ["LPUSH", text, "secret-argument"],
          ["RPUSH", list, "y"],
          ["NOSUCHCOMMAND"],
        ],
        signal(),
      );
      expect(answers[0]).toBe("OK");
      expect(answers[1]).toMatchObject({ ...refused, details: { code: "WRONGTYPE" } });
      expect(answers[2]).toBe(1);
      expect(answers[3]).toMatchObject(refused);
      expectNoSecrets(answers[1]);
      expect(await run("LRANGE", list, "0", "-1")).toEqual(["y"]);
    });

    test("of nothing is nothing", async () => {
      expect(await redis.pipeline([], signal())).toEqual([]);
      expect(await redis.scripts([], signal())).toEqual([]);
      expect(await redis.transaction([], signal())).toEqual([]);
    });

    test("of 1,200 commands keeps every place", async () => {
      const at = key("many");
      const numbers = Array.from({ length: 1200 }, (_, i) => String(i));
      const writes = numbers.map((n) => ["SET", `${at}:${n}`, n] as const);
      expect(await redis.pipeline(writes, signal())).toEqual(numbers.map(() => "OK"));
      const reads = numbers.map((n) => ["GET", `${at}:${n}`] as const);
      expect(await redis.pipeline(reads, signal())).toEqual(numbers);
    });
  });

  describe("a transaction", () => {
    test("is one instant: nobody gets in between", async () => {
      const at = key("counter");
      const step = () =>
        redis.transaction(
          [
            ["INCR", at],
            ["INCR", at],
            ["GET", at],
          ],
          signal(),
        );
      const replies = await Promise.all(Array.from({ length: 50 }, step));
      for (const [first, second, text] of replies) {
        expect(second).toBe((first as number) + 1);
        expect(text).toBe(String(second));
      }
      expect(await run("GET", at)).toBe("100");
    });

    test("is discarded as a whole when a command cannot be queued", async () => {
      const at = key("counter");
      const error = await failure(redis.transaction([["INCR", at], ["INCR"]], signal()));
      expect(error).toMatchObject(refused);
      expect(await run("GET", at)).toBeNull();
    });

    test("reports a command that fails while it runs, though the others took effect", async () => {
      const text = key("text");
      const counter = `${text}:n`;
      await run("SET", text, "x");
      const work = redis.transaction(
        [
          ["LPUSH", text, "y"],
          ["INCR", counter],
        ],
        signal(),
      );
      expect(await failure(work)).toMatchObject({ ...refused, details: { code: "WRONGTYPE" } });
      expect(await run("GET", counter)).toBe("1");
    });
  });

  describe("a script", () => {
    const add = redisScript(
      "add-and-read",
      "local n = redis.call('INCRBY', KEYS[1], ARGV[1])\nreturn {n, tostring(n), ARGV[2], false, {'nested', {1}}}",
    );
    const call = (at: string, text = "007") => ({ script: add, keys: [at], args: ["5", text] });

    test("replies with exact strings, integers, nulls and nested lists", async () => {
      const at = key("n");
      const reply = [5, "5", "007", null, ["nested", [1]]];
      expect(await redis.script(call(at), signal())).toEqual(reply);
    });

    test("is known by its hash after the first call", async () => {
      await redis.script(call(key("n")), signal());
      expect(await run("SCRIPT", "EXISTS", add.sha1)).toEqual([1]);
    });

    test("runs again after Redis forgot it", async () => {
      const at = key("n");
      await redis.script(call(at), signal());
      await run("SCRIPT", "FLUSH");
      expect(await redis.script(call(at), signal())).toEqual([
        10,
        "10",
        "007",
        null,
        ["nested", [1]],
      ]);
      expect(await run("SCRIPT", "EXISTS", add.sha1)).toEqual([1]);
    });

    test("called 1,000 times in one go runs exactly once per call, also when Redis forgot it", async () => {
      await run("SCRIPT", "FLUSH");
      const at = key("n");
      const calls = Array.from({ length: 1000 }, (_, i) => call(at, `#${i}`));
      const answers = await redis.scripts(calls, signal());
      expect(answers).toHaveLength(1000);
      for (const [i, answer] of answers.entries()) expect(answer).toMatchObject({ 2: `#${i}` });
      expect(await run("GET", at)).toBe("5000");
    });

    test("that fails is an error at its place, and only that one", async () => {
      const [text, n] = [key("text"), key("n")];
      await run("SET", text, "not a number");
      const answers = await redis.scripts([call(n), call(text), call(n)], signal());
      expect(answers[0]).toMatchObject({ 0: 5 });
      expect(answers[1]).toMatchObject(refused);
      expect(answers[2]).toMatchObject({ 0: 10 });
    });

    test("that Redis knows is not run twice because its neighbour is unknown", async () => {
      const at = key("n");
      await redis.script(call(at), signal());
      const fresh = redisScript("fresh", `return '${at}'`);
      const answers = await redis.scripts(
        [call(at), { script: fresh, keys: [at], args: [] }, call(at)],
        signal(),
      );
      expect(answers).toMatchObject([{ 0: 10 }, at, { 0: 15 }]);
    });
  });

  describe("time", () => {
    test("nothing is sent under a signal that is aborted already", async () => {
      const at = key("n");
      const error = await failure(redis.command(["INCR", at], AbortSignal.abort()));
      expect(error).toMatchObject({ kind: "transient", code: "deadline_exceeded" });
      expect(await run("GET", at)).toBeNull();
    });

    test("an abort ends one call and leaves its neighbours alone", async () => {
      const controller = new AbortController();
      const at = key("n");
      const doomed = failure(redis.command(["INCR", at], controller.signal));
      const neighbour = redis.command(["INCR", key("other")], signal());
      controller.abort();
      expect(await doomed).toMatchObject({ kind: "transient", code: "deadline_exceeded" });
      expect(await neighbour).toBe(1);
    });

    test("many calls at once are all answered, each with its own answer", async () => {
      const keys = Array.from({ length: 300 }, (_, i) => key(`n${i}`));
      const answers = await Promise.all(
        keys.map((at, i) => redis.command(["INCRBY", at, String(i)], signal())),
      );
      expect(answers).toEqual(keys.map((_, i) => i));
    });
  });
});

const CALL_MS = 300;

describe.each(Object.entries(drivers))("the %s driver when Redis is in trouble", (_kind, open) => {
  let backend: TestRedis;
  let redis: RedisDriver;
  const get = (ms = 20_000) => redis.command(["GETSET", "answer", "42"], AbortSignal.timeout(ms));
  /** Polls until a call works again; the bound is what we promise. */
  const recovered = (withinMs: number) =>
    expect.poll(() => get().catch(() => undefined), { timeout: withinMs, interval: 25 }).toBe("42");

  beforeAll(async () => {
    backend = await openRedis();
  });
  afterAll(() => backend.close());
  beforeEach(async () => {
    redis = open(backend, CALL_MS);
    // The first call also loads the client, which may take longer than the limit.
    await vi.waitFor(() => redis.command(["SET", "answer", "42"], signal()), { timeout: 5000 });
  });
  afterEach(() => redis.close());

  test("a frozen Redis fails every kind of call by the driver's own limit", async () => {
    await backend.freeze();
    const script = redisScript("read", "return redis.call('GET', KEYS[1])");
    const call = { script, keys: ["answer"], args: [] };
    const work = [
      () => get(),
      () =>
        redis.pipeline(
          [
            ["GET", "answer"],
            ["GET", "answer"],
          ],
          signal(),
        ),
      () => redis.transaction([["GET", "answer"]], signal()),
      () => redis.script(call, signal()),
      () => redis.scripts([call, call], signal()),
    ];
    try {
      const startedAt = performance.now();
      const errors = await Promise.all(work.map((start) => failure(start())));
      for (const error of errors) expect(error).toMatchObject(unavailable);
      expect(performance.now() - startedAt).toBeLessThan(4 * CALL_MS);
    } finally {
      await backend.thaw();
    }
    await recovered(2000);
  });

  test("a caller's deadline ends a call to a frozen Redis, and the next call after the thaw works", async () => {
    await backend.freeze();
    try {
      const startedAt = performance.now();
      const error = await failure(get(50));
      expect(error).toMatchObject({ kind: "transient", code: "deadline_exceeded" });
      expect(performance.now() - startedAt).toBeLessThan(CALL_MS);
    } finally {
      await backend.thaw();
    }
    expect(await get()).toBe("42");
  });

  test("a Redis that is frozen for long fails call after call, never hangs, and comes back", async () => {
    await backend.freeze();
    try {
      for (let i = 0; i < 5; i++)
        expect(await failure(get(CALL_MS / 2))).toMatchObject({ kind: "transient" });
    } finally {
      await backend.thaw();
    }
    await recovered(2000);
  });

  test("a killed Redis fails calls as transient, and is found again within 2 s of its restart", async () => {
    await backend.kill();
    const startedAt = performance.now();
    for (let i = 0; i < 3; i++) expect(await failure(get())).toMatchObject(unavailable);
    expect(performance.now() - startedAt).toBeLessThan(3 * 2 * CALL_MS);
    await backend.restart();
    await open(backend)
      .command(["SET", "answer", "42"], signal())
      .catch(() => {});
    await recovered(2000);
  });

  test("calls in flight when the connection dies end once, and are not sent again", async () => {
    await backend.freeze();
    const doomed = Array.from({ length: 20 }, () =>
      failure(redis.command(["INCR", "twice"], signal())),
    );
    await backend.kill();
    for (const error of await Promise.all(doomed)) expect(error).toMatchObject(unavailable);
    await backend.restart();
    await expect
      .poll(() => redis.command(["GET", "twice"], signal()).catch(() => "?"), { timeout: 2000 })
      .toBeNull();
  });

  test("closing ends the calls in flight, refuses later ones and can be repeated", async () => {
    await backend.freeze();
    try {
      const inFlight = failure(get());
      await new Promise(setImmediate);
      await redis.close();
      const closed = { ...unavailable, details: { code: "CLOSED" } };
      expect(await inFlight).toMatchObject(closed);
      expect(await failure(get())).toMatchObject(closed);
      await redis.close();
    } finally {
      await backend.thaw();
    }
  });
});

describe("a Redis that is not there or does not know us", () => {
  let backend: TestRedis;
  let closedPort: number;
  beforeAll(async () => {
    backend = await openRedis();
    closedPort = await freePort(); // well-known closed ports are refused by fetch before it tries
  });
  afterAll(() => backend.close());

  const attempt = async (redis: RedisDriver) => {
    const startedAt = performance.now();
    const error = await failure(redis.command(["GET", "k"], signal()));
    await redis.close();
    return { error, ms: performance.now() - startedAt };
  };

  test.each([
    ["upstash", () => createUpstashDriver({ url: `http://127.0.0.1:${closedPort}`, token: "t" })],
    ["ioredis", () => createIoredisDriver({ url: `redis://127.0.0.1:${closedPort}` })],
  ])("%s: a closed port fails fast as transient, with the code of the socket", async (_, open) => {
    const { error, ms } = await attempt(open());
    expect(error).toMatchObject({ ...unavailable, details: { code: "ECONNREFUSED" } });
    expect(ms).toBeLessThan(1000);
  });

  test.each([
    ["upstash", () => createUpstashDriver({ url: "http://redis.invalid", token: "t" })],
    ["ioredis", () => createIoredisDriver({ url: "redis://redis.invalid" })],
  ])("%s: an unknown host fails as transient", async (_, open) => {
    expect((await attempt(open())).error).toMatchObject(unavailable);
  });

  test("upstash: a wrong token is refused, and does not show up in the error", async () => {
    const { error } = await attempt(
      createUpstashDriver({ ...backend.upstash, token: "secret-wrong" }),
    );
    expect(error).toMatchObject({ ...refused, details: { code: "WRONGPASS" } });
    expectNoSecrets(error);
  });
});

function expectNoSecrets(value: unknown): void {
  expect(inspect(value, { depth: 10, showHidden: true })).not.toContain("secret-");
}
