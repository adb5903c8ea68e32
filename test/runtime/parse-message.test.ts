import { describe, expect, test } from "vitest";
import { z } from "zod";
import { parseMessage } from "../../src/lib/runtime/parse-message.ts";

const Message = z.object({ v: z.literal(1), shard: z.int().min(0).max(255) });

describe("a queue message", () => {
  test("is read by its schema, and unknown fields do not matter", () => {
    expect(parseMessage(Message, { v: 1, shard: 7, later: true })).toEqual({ v: 1, shard: 7 });
  });

  test.each([
    [{ v: 1, shard: 256 }, ["shard"]],
    [{ v: 2, shard: "hunter2" }, ["v", "shard"]],
    ["hunter2", ["message"]],
    [42, ["message"]],
    [null, ["message"]],
    [undefined, ["message"]],
    [[{ v: 1 }], ["message"]],
  ])("that is none of ours (%j) is refused by its fields and without its values", (raw, fields) => {
    const parse = () => parseMessage(Message, raw);
    expect(parse).toThrow(
      expect.objectContaining({
        kind: "permanent",
        code: "message_invalid",
        details: { faults: fields.map((field) => expect.objectContaining({ field })) },
      }),
    );
    expect(parse).not.toThrow("hunter2");
  });
});
