import { inspect } from "node:util";
import { expect, test } from "vitest";
import { clientError, replyError } from "../../src/lib/runtime/classify-error.redis.ts";

test.each([
  ["LOADING Redis is loading the dataset in memory", "LOADING"],
  ["BUSY Redis is busy running a script. You can only call SCRIPT KILL", "BUSY"],
  [
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MASTERDOWN",
  ],
  ["CLUSTERDOWN The cluster is down", "CLUSTERDOWN"],
  ["TRYAGAIN Multiple keys request during rehashing of slot", "TRYAGAIN"],
  ["READONLY You can't write against a read only replica.", "READONLY"],
  ["OOM command not allowed when used memory > 'maxmemory'.", "OOM"],
  ["MISCONF Redis is configured to save RDB snapshots, but it is unable to persist", "MISCONF"],
  ["NOREPLICAS Not enough good replicas to write.", "NOREPLICAS"],
  ["NOSCRIPT No matching script.", "NOSCRIPT"],
  ["ERR max number of clients reached", "ERR"],
  ["ERR max daily request limit exceeded. Limit: 10000, Usage: 10000.", "ERR"],
  ["ERR max requests limit exceeded.", "ERR"],
  ["Too many requests", "GATEWAY"],
  ["undefined", "GATEWAY"],
])("%j may pass", (message, code) => {
  expect(replyError(message)).toMatchObject({
    kind: "transient",
    code: "redis_unavailable",
    details: { code },
  });
});

test.each([
  ["WRONGTYPE Operation against a key holding the wrong kind of value", "WRONGTYPE"],
  ["ERR syntax error", "ERR"],
  ["ERR value is not an integer or out of range", "ERR"],
  ["ERR max request size exceeded. Limit: 1048576 bytes", "ERR"],
  ["EUSAGE tokens must be whole", "EUSAGE"],
  ["NOPERM User has no permissions to run the 'get' command", "NOPERM"],
  ["NOAUTH Authentication required.", "NOAUTH"],
  ["WRONGPASS invalid or missing auth token", "WRONGPASS"],
  ["Unauthorized", "WRONGPASS"],
  ["CROSSSLOT Keys in request don't hash to the same slot", "CROSSSLOT"],
  ["MOVED 3999 10.0.0.1:6381", "MOVED"],
  ["BUSYGROUP Consumer Group name already exists", "BUSYGROUP"],
  ["NOGROUP No such key 'k' or consumer group 'g'", "NOGROUP"],
  ["EXECABORT Transaction discarded because of previous errors.", "EXECABORT"],
])("%j is refused", (message, code) => {
  expect(replyError(message)).toMatchObject({
    kind: "permanent",
    code: "redis_refused",
    details: { code },
  });
});

test.each([
  `ERR wrong number of arguments, command was: ["SET","secret-key","secret-value"]`,
  "ERR unknown command 'FOO', with args beginning with: 'secret-key' 'secret-value' ",
  "ERR can't do that, with args beginning with: 'secret-key' ",
  "ERR unknown command `FOO`, with args beginning with: `secret-key`, ",
  "NOGROUP No such key 'secret-key' or consumer group 'secret-group' in XREADGROUP",
])("the message of %j carries no data", (message) => {
  expect(inspect(replyError(message), { depth: 10 })).not.toContain("secret-");
});

test("a message is cut to a length that fits a log line", () => {
  const { details } = replyError(`ERR ${"x".repeat(5000)}`);
  expect(String(details["message"]).length).toBe(200);
});

test("the error of a client does not travel, because clients attach the command", () => {
  const aborted = Object.assign(new Error("Command aborted due to connection close"), {
    name: "AbortError",
    command: { name: "set", args: ["secret-key", "secret-value"] },
  });
  const error = clientError(aborted);
  expect(error).toMatchObject({ kind: "transient", details: { code: "CONNECTION_LOST" } });
  expect(inspect(error, { depth: 10, showHidden: true })).not.toContain("secret-");
});

test("the code of the socket is found behind the error of fetch", () => {
  const socket = Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" });
  const error = clientError(new TypeError("fetch failed", { cause: socket }));
  expect(error.details).toEqual({ code: "ECONNRESET", message: "read ECONNRESET" });
});

test.each([undefined, null, "text", 7])(
  "the thrown value %j means that there was no answer",
  (thrown) => {
    expect(clientError(thrown)).toMatchObject({
      kind: "transient",
      code: "redis_unavailable",
      details: { code: "CONNECTION_LOST" },
    });
  },
);
