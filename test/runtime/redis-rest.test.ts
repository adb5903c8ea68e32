import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { inspect } from "node:util";
import { afterEach, expect, test } from "vitest";
import { type RedisDriver, redisScript } from "../../src/lib/kernel/redis.ts";
import { createUpstashDriver } from "../../src/lib/runtime/upstash-driver.redis.ts";

interface Seen {
  readonly path: string | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: readonly (readonly string[])[];
}

interface Answer {
  readonly status?: number;
  readonly body?: string;
  /** Closes the socket after the request was read, without an answer. */
  readonly isLost?: boolean;
}

/** A server that speaks as much REST as each test wants, for what a real one does not do on demand. */
async function openServer(answer: (seen: Seen, count: number) => Answer) {
  const requests: Seen[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = JSON.parse(Buffer.concat(chunks).toString());
    requests.push({ path: request.url, headers: request.headers, body });
    const { status = 200, body: text = "[]", isLost } = answer(requests.at(-1)!, requests.length);
    if (isLost) request.socket.destroy();
    else response.writeHead(status, { "content-type": "application/json" }).end(text);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  servers.push(server);
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, requests };
}

const servers: Server[] = [];
const opened: RedisDriver[] = [];
const open = (url: string, keyLocking?: boolean) => {
  const redis = createUpstashDriver({ url, token: "secret-token", keyLocking, timeoutMs: 2000 });
  opened.push(redis);
  return redis;
};
afterEach(async () => {
  await Promise.all(opened.splice(0).map((redis) => redis.close()));
  for (const server of servers.splice(0)) {
    server.close();
    server.closeAllConnections();
  }
});

const signal = () => AbortSignal.timeout(10_000);
const ok = ({ body }: Seen): Answer => ({
  body: JSON.stringify(body.map(() => ({ result: "OK" }))),
});
const get = (redis: RedisDriver) => redis.command(["GET", "k"], signal()).catch((error) => error);

test("a request whose answer is lost is not sent again", async () => {
  const { url, requests } = await openServer(() => ({ isLost: true }));
  const error = await open(url)
    .command(["INCR", "n"], signal())
    .catch((e) => e);
  expect(error).toMatchObject({ kind: "transient", code: "redis_unavailable" });
  expect(requests).toHaveLength(1);
});

test("calls of one tick are requests of their own, without telemetry", async () => {
  const { url, requests } = await openServer(ok);
  const redis = open(url);
  await Promise.all([get(redis), get(redis), get(redis)]);
  expect(requests.map(({ path, body }) => [path, body])).toEqual(
    Array(3).fill(["/pipeline", [["GET", "k"]]]),
  );
  const names = requests.flatMap(({ headers }) => Object.keys(headers));
  expect(names.filter((name) => name.startsWith("upstash-telemetry"))).toEqual([]);
});

test("scripts ask for key locking at Upstash only, under the hash of the text that is sent", async () => {
  const source = "return 1";
  const plain = redisScript("one", source);
  const locking = redisScript("one", `#!lua flags=allow-key-locking\n${source}`);
  const noscript = ({ body }: Seen): Answer => ({
    body: JSON.stringify(
      body.map(([name]) =>
        name === "EVAL" ? { result: 1 } : { error: "NOSCRIPT No matching script." },
      ),
    ),
  });
  for (const [keyLocking, { sha1, source: text }] of [
    [undefined, plain],
    [true, locking],
  ] as const) {
    const { url, requests } = await openServer(noscript);
    const call = { script: plain, keys: ["k"], args: ["a"] };
    expect(await open(url, keyLocking).script(call, signal())).toBe(1);
    expect(requests.map(({ body }) => body)).toEqual([
      [["EVALSHA", sha1, "1", "k", "a"]],
      [["EVAL", text, "1", "k", "a"]],
    ]);
  }
});

test("a script that brings its own header keeps it", async () => {
  const { url, requests } = await openServer(ok);
  const script = redisScript("own", "#!lua flags=no-writes\nreturn 1");
  await open(url, true).script({ script, keys: [], args: [] }, signal());
  expect(requests[0]?.body).toEqual([["EVALSHA", script.sha1, "0"]]);
});

test("only the calls whose script is unknown are sent again", async () => {
  const { url, requests } = await openServer(({ body }) => ({
    body: JSON.stringify(
      body.map((command) => {
        const isUnknown = command[0] === "EVALSHA" && command[3] === "2";
        return isUnknown ? { error: "NOSCRIPT" } : { result: command[3] };
      }),
    ),
  }));
  const script = redisScript("n", "return ARGV[1]");
  const calls = ["1", "2", "3"].map((n) => ({ script, keys: [], args: [n] }));
  expect(await open(url).scripts(calls, signal())).toEqual(["1", "2", "3"]);
  expect(requests.map(({ body }) => body.map(([name]) => name))).toEqual([
    ["EVALSHA", "EVALSHA", "EVALSHA"],
    ["EVAL"],
  ]);
});

test("when sending a script's text fails, the calls that ran count", async () => {
  const { url } = await openServer(({ body }) => {
    if (body.some(([name]) => name === "EVAL")) return { isLost: true };
    const answer = ([, , , n]: readonly string[]) =>
      n === "2" ? { error: "NOSCRIPT" } : { result: n };
    return { body: JSON.stringify(body.map(answer)) };
  });
  const script = redisScript("n", "return ARGV[1]");
  const calls = ["1", "2", "3"].map((n) => ({ script, keys: [], args: [n] }));
  const lost = { kind: "transient", code: "redis_unavailable" };
  expect(await open(url).scripts(calls, signal())).toMatchObject(["1", lost, "3"]);
  const onlyLost = open(url).scripts(calls.slice(1, 2), signal());
  await expect(onlyLost).rejects.toMatchObject(lost);
});

test("a long pipeline travels in requests of bounded number and size", async () => {
  const { url, requests } = await openServer(ok);
  const redis = open(url);
  const small = Array.from({ length: 1100 }, (_, i) => ["GET", `k${i}`] as const);
  expect(await redis.pipeline(small, signal())).toHaveLength(1100);
  expect(requests.map(({ body }) => body.length)).toEqual([500, 500, 100]);
  const large = Array.from({ length: 3 }, () => ["SET", "k", "x".repeat(200_000)] as const);
  await redis.pipeline([...large, ["SET", "k", "y".repeat(900_000)]], signal());
  expect(requests.slice(3).map(({ body }) => body.length)).toEqual([2, 1, 1]);
});

test("when a later request fails the answers of the earlier ones count", async () => {
  const { url } = await openServer((seen, count) => (count === 2 ? { isLost: true } : ok(seen)));
  const commands = Array.from({ length: 1100 }, (_, i) => ["SET", `k${i}`, "v"] as const);
  const answers = await open(url).pipeline(commands, signal());
  expect(answers.slice(0, 500)).toEqual(Array(500).fill("OK"));
  expect(answers).toHaveLength(1100);
  for (const answer of answers.slice(500)) {
    expect(answer).toMatchObject({ kind: "transient", code: "redis_unavailable" });
  }
});

test.each([
  ["a proxy's page", { status: 502, body: "<html>secret-page</html>" }, "BAD_RESPONSE"],
  ["a proxy's page with status 200", { body: "<html>secret-page</html>" }, "BAD_RESPONSE"],
  ["an error of another shape", { status: 500, body: '{"message":"secret-page"}' }, "GATEWAY"],
  ["an overloaded gateway", { status: 429, body: '{"error":"Too many requests"}' }, "GATEWAY"],
])("%s may pass, and is not quoted", async (_, answer, code) => {
  const { url } = await openServer(() => answer);
  const error = await get(open(url));
  expect(error).toMatchObject({ kind: "transient", code: "redis_unavailable", details: { code } });
  expect(inspect(error, { depth: 10, showHidden: true })).not.toContain("secret-");
});

test.each([
  ["fewer answers than commands", "[]"],
  ["an object", '{"result":"OK"}'],
  ["an answer that is no object", "[1]"],
  ["neither result nor error", "[{}]"],
  ["a boolean", '[{"result":true}]'],
  ["an object as a value", '[{"result":{"a":1}}]'],
  ["a number that is not exact", '[{"result":9007199254740993}]'],
  ["such a number deep inside", '[{"result":[["x",[9007199254740993]]]}]'],
  ["a fraction", '[{"result":1.5}]'],
])("%s is not passed on", async (_, body) => {
  const { url } = await openServer(() => ({ body }));
  expect(await get(open(url))).toMatchObject({ kind: "bug", code: "redis_reply_unexpected" });
});

test("an aborted call never looks like an answer", async () => {
  const controller = new AbortController();
  const { url } = await openServer(() => {
    controller.abort("reason");
    return { body: '[{"result":"late"}]' };
  });
  const error = await open(url)
    .command(["GET", "k"], controller.signal)
    .catch((e) => e);
  expect(error).toMatchObject({ kind: "transient", code: "deadline_exceeded", cause: "reason" });
});
