import { describe, expect, test } from "vitest";
import { planShards } from "../../src/lib/usage/plan-shards.ts";
import { type Cursor, type LogRead, planStep } from "../../src/lib/usage/plan-step.ts";
import { cursorAt, entry } from "./log-fixtures.ts";

const NEVER_READ: Cursor = { inc: "", n: "0", cum: null, count: null, anchor: null };
const read = (parts: Partial<LogRead>): LogRead => ({
  inc: "aaaaaaaa",
  n: "0",
  cum: "0",
  count: "0",
  rows: [],
  ...parts,
});
const entries = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => entry({ n: from + i, cum: (from + i) * 10 }));

describe("a log that goes on where the cursor stands", () => {
  test("applies what follows the anchor and not the anchor itself", () => {
    const step = planStep(cursorAt(2, 20), read({ n: "4", cum: "40", rows: entries(2, 4) }), 100);
    expect(step).toMatchObject({ kind: "apply", isLast: true });
    expect(step.kind === "apply" && step.batch.uses).toHaveLength(2);
  });

  test("takes at most a batch and says that there is more", () => {
    const step = planStep(cursorAt(2, 20), read({ n: "9", cum: "90", rows: entries(2, 5) }), 3);
    expect(step).toMatchObject({ kind: "apply", isLast: false });
    expect(step.kind === "apply" && step.batch.end.n).toBe("5");
  });

  test("is idle when nothing follows", () => {
    expect(
      planStep(cursorAt(2, 20), read({ n: "2", cum: "20", rows: entries(2, 2) }), 9).kind,
    ).toBe("idle");
  });

  test("reads on when the anchor was trimmed", () => {
    const step = planStep(cursorAt(2, 20), read({ n: "5", cum: "50", rows: entries(4, 5) }), 100);
    expect(step.kind === "apply" && step.batch.uses).toHaveLength(2);
  });

  test("moves to a head without entries, so that deleted ones show in the sums", () => {
    const step = planStep(cursorAt(2, 20), read({ n: "5", cum: "50", count: "5" }), 100);
    expect(step).toMatchObject({
      kind: "apply",
      batch: { uses: [], end: { n: "5", cum: "50", count: "5", anchor: null } },
    });
  });
});

describe("a log that is not the one of the cursor", () => {
  test.each([
    ["was never read", NEVER_READ, read({ n: "1", rows: entries(1, 1) }), "first"],
    ["has another lineage", cursorAt(2, 20), read({ inc: "b", n: "9" }), "lineage_changed"],
    ["is gone", cursorAt(2, 20), read({ inc: "" }), "redis_flushed"],
    ["is behind the cursor", cursorAt(5, 50), read({ n: "3" }), "redis_rewound"],
  ] as const)("%s", (_, cursor, log, cause) => {
    expect(planStep(cursor, log, 10)).toEqual({ kind: "fork", cause });
  });

  test("has another entry at the cursor", () => {
    const other = entry({ n: 2, cum: 20, uid: "00000000-0000-0000-0000-000000000000" });
    const step = planStep(cursorAt(2, 20), read({ n: "2", cum: "20", rows: [other] }), 10);
    expect(step).toEqual({ kind: "fork", cause: "anchor_mismatch" });
  });

  test("has the same id and sum at the cursor, recorded at another time", () => {
    const twin = entry({ n: 2, cum: 20, recordedUs: "1795325400000001" });
    const step = planStep(cursorAt(2, 20), read({ n: "2", cum: "20", rows: [twin] }), 10);
    expect(step).toEqual({ kind: "fork", cause: "anchor_mismatch" });
  });

  test("is never used: nothing to do", () => {
    expect(planStep(NEVER_READ, read({ inc: "" }), 10)).toEqual({ kind: "idle" });
  });

  test("a foreign entry far ahead lowers nothing and forks nothing", () => {
    const cursor = { ...cursorAt(9, 20), anchor: null };
    const foreign = { n: "9", fields: ["d", "garbage"] };
    expect(planStep(cursor, read({ n: "3", cum: "20", rows: [foreign] }), 10).kind).toBe("idle");
  });
});

describe("which shards get a message", () => {
  const head = { shard: 7, inc: "aaaaaaaa", n: "5", cum: "50", count: "5" };
  const cursor = { ...cursorAt(5, 50), shard: 7, trim: null };

  test.each([
    ["nothing new", head, cursor, []],
    ["something new", { ...head, n: "9", cum: "90" }, cursor, [{ shard: 7, pending: 4 }]],
    [
      "the same number with another sum",
      { ...head, cum: "51" },
      cursor,
      [{ shard: 7, pending: 0 }],
    ],
    ["another lineage", { ...head, inc: "b" }, cursor, [{ shard: 7, pending: 5 }]],
    ["a flushed log", { ...head, inc: "", n: "0" }, cursor, [{ shard: 7, pending: 0 }]],
    ["entries to trim", head, { ...cursor, trim: "3" }, [{ shard: 7, pending: 0 }]],
  ] as const)("%s", (_, shardHead, shardCursor, planned) => {
    expect(planShards([shardHead], [shardCursor])).toEqual(planned);
  });

  test("a shard that was never used gets none, one that was never read gets one", () => {
    expect(planShards([{ ...head, inc: "" }], [])).toEqual([]);
    expect(planShards([head], [])).toEqual([{ shard: 7, pending: 5 }]);
  });
});
