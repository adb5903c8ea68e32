import { expect, test } from "vitest";
import { consoleLogger } from "../../../local/functions-host/console-log.ts";
import type { LogEntry } from "../../../local/functions-host/host-log.ts";

const entry = (message: string, more: Partial<LogEntry> = {}): LogEntry => ({
  at: new Date("2026-11-24T18:05:09.123Z"),
  level: "information",
  category: "Host",
  message,
  ...more,
});

function printed(entries: readonly LogEntry[], options = {}): string {
  const lines: string[] = [];
  const logger = consoleLogger({ ...options, write: (line) => void lines.push(line) });
  entries.forEach(logger);
  return lines.join("");
}

test("a line is time, level, function and message", () => {
  const fromFunction = entry("seen", { level: "error", functionName: "nightly" });
  const fromApp = entry("printed", { category: "Host.Function.Console" });
  expect(printed([entry("up"), fromFunction, fromApp])).toBe(
    "18:05:09 info  host: up\n18:05:09 ERROR nightly: seen\n18:05:09 info  app: printed\n",
  );
});

test("a JSON event is printed as its name and fields, without the function a second time", () => {
  const message = JSON.stringify({
    event: "run_done",
    function: "nightly",
    rows: 7,
    tenant: "acme",
    note: "two words",
    failed: null,
    list: ["a"],
  });
  const line = printed([entry(message, { functionName: "nightly" })]);
  expect(line).toBe(
    '18:05:09 info  nightly: run_done rows=7 tenant=acme note="two words" failed=null list=["a"]\n',
  );
});

test.each(['{"noEvent":1}', "{broken", "[1]"])("the message %s stays as it is", (message) => {
  expect(printed([entry(message)])).toBe(`18:05:09 info  host: ${message}\n`);
});

test("debug and trace are shown only when asked for", () => {
  const quiet = [entry("a", { level: "debug" }), entry("b", { level: "trace" })];
  expect(printed(quiet)).toBe("");
  expect(printed(quiet, { isVerbose: true })).toBe(
    "18:05:09 debug host: a\n18:05:09 trace host: b\n",
  );
});

test("as JSON every line is one object with everything that is known", () => {
  const line = printed([entry("seen", { functionName: "fn", invocationId: "1" })], {
    isJson: true,
  });
  expect(JSON.parse(line)).toEqual({
    time: "2026-11-24T18:05:09.123Z",
    level: "information",
    category: "Host",
    message: "seen",
    functionName: "fn",
    invocationId: "1",
  });
});
