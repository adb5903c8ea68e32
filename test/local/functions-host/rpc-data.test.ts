import { expect, test } from "vitest";
import { retryDelayMs } from "../../../local/functions-host/executor.ts";
import { decodeMessage, encodeMessage } from "../../../local/functions-host/message-encoding.ts";
import { queueInput, queueMessages } from "../../../local/functions-host/rpc-data.ts";

const input = (text: string) =>
  queueInput({
    text,
    id: "message-id",
    popReceipt: "receipt",
    dequeueCount: 2,
    insertedAt: new Date("2026-11-24T10:00:00Z"),
    expiresAt: new Date("2026-12-01T10:00:00Z"),
    nextVisibleAt: new Date("2026-11-24T10:10:00Z"),
  }).triggerMetadata;

test("a queue message carries its metadata", () => {
  expect(input("plain")).toEqual({
    QueueTrigger: { string: "plain" },
    DequeueCount: { json: "2" },
    Id: { string: "message-id" },
    PopReceipt: { string: "receipt" },
    InsertionTime: { json: '"2026-11-24T10:00:00.000+00:00"' },
    ExpirationTime: { json: '"2026-12-01T10:00:00.000+00:00"' },
    NextVisibleTime: { json: '"2026-11-24T10:10:00.000+00:00"' },
  });
});

test("top-level properties of a JSON message are promoted as .NET text, without arrays and nulls", () => {
  const text = JSON.stringify({
    tenant: "acme",
    rows: 1.5,
    ok: true,
    deep: { a: 1 },
    list: [1],
    no: null,
  });
  const { tenant, rows, ok, deep, list, no } = input(text);
  expect([tenant, rows, ok, deep, list, no]).toEqual([
    { string: "acme" },
    { string: "1.5" },
    { string: "True" },
    { json: '{"a":1}' },
    undefined,
    undefined,
  ]);
});

test("a property replaces metadata of the same name, whatever its case, so a sender can forge it", () => {
  const metadata = input(JSON.stringify({ id: "forged", DEQUEUECOUNT: 0 }));
  expect([metadata["Id"], metadata["DequeueCount"]]).toEqual([
    { string: "forged" },
    { string: "0" },
  ]);
});

const sent = (output: unknown) => queueMessages(output).map(String);

test("an output becomes messages as in Azure", () => {
  expect(sent(undefined)).toEqual([]);
  expect(sent("text")).toEqual(["text"]);
  expect(sent(["a", { b: 1 }])).toEqual(["a", '{\n  "b": 1\n}']);
  expect(sent('["a","b"]')).toEqual(["a", "b"]);
  expect(sent('{"b":1}')).toEqual(['{\n  "b": 1\n}']);
  expect(sent("[not json")).toEqual(["[not json"]);
  expect(sent(7)).toEqual(["7"]);
  expect(sent(Buffer.from("bytes"))).toEqual(["bytes"]);
});

test("text survives its encoding, and other text is told apart", () => {
  expect(decodeMessage(encodeMessage(Buffer.from("ñ"), "base64"), "base64")).toBe("ñ");
  expect(decodeMessage(encodeMessage(Buffer.from("ñ"), "none"), "none")).toBe("ñ");
  for (const text of ["{}", "abc", "YWJj=", "YW Jj"]) {
    expect(decodeMessage(text, "base64")).toBeUndefined();
  }
  expect(decodeMessage(" YWJj\n", "base64")).toBe("abc");
});

test("the delay before a retry is fixed, or doubles up to its maximum", () => {
  const fixed = {
    maxRetryCount: 3,
    retryStrategy: "fixedDelay",
    delayInterval: { seconds: 2 },
  } as const;
  expect(retryDelayMs(fixed, 2)).toBe(2000);
  const growing = {
    maxRetryCount: 3,
    retryStrategy: "exponentialBackoff",
    minimumInterval: { seconds: 10 },
    maximumInterval: { seconds: 35 },
  } as const;
  expect([0, 1, 2].map((attempt) => retryDelayMs(growing, attempt))).toEqual([
    10_000, 20_000, 35_000,
  ]);
});
