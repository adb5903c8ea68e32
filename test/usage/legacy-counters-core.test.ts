import { describe, expect, test } from "vitest";
import { classifyDrift, type TenantSides } from "../../src/lib/usage/legacy/classify-drift.ts";
import {
  type CounterKey,
  type CounterPattern,
  parseCounterKey,
  parseCounterKeys,
  parseCounterPattern,
  scopeOf,
} from "../../src/lib/usage/legacy/counter-key.ts";
import { planComparisons } from "../../src/lib/usage/legacy/plan-comparisons.ts";
import { planCounters } from "../../src/lib/usage/legacy/plan-counters.ts";

const patternOf = (text: string): CounterPattern => {
  const pattern = parseCounterPattern(text);
  if (pattern === undefined) throw new Error(`no pattern: ${text}`);
  return pattern;
};
const PATTERN = patternOf("*:counter:token_usage:type:*");
const keyOf = (rest: string, tenant = "acme") => `${tenant}:counter:token_usage:type:${rest}`;
const counterOf = (rest: string, tenant?: string): CounterKey => {
  const counter = parseCounterKey(PATTERN, keyOf(rest, tenant));
  if (counter === undefined) throw new Error(`no counter: ${rest}`);
  return counter;
};

describe("the key of a counter", () => {
  test.each([
    ["llm:model:gpt-4o", { type: "llm", model: "gpt-4o", agent: "", conversation: "" }],
    ["embedding:model:te-3", { type: "embedding", model: "te-3" }],
    ["llm:model:unknown", { model: "" }],
    ["llm:model:ft:gpt-4o:org::id", { model: "ft:gpt-4o:org::id" }],
    ["llm:model:gpt-4o:agent:a1", { model: "gpt-4o", agent: "a1" }],
    ["llm:model:gpt-4o:conv:c1", { model: "gpt-4o", conversation: "c1" }],
    ["llm:model:a:b:agent:a1:conv:c1", { model: "a:b", agent: "a1", conversation: "c1" }],
    ["llm:model:agent:agent:a1", { model: "agent", agent: "a1" }],
  ])("%s is read", (rest, parts) => {
    expect(parseCounterKey(PATTERN, keyOf(rest))).toMatchObject({ tenant: "acme", ...parts });
  });

  test.each([
    "image:model:x",
    "llm",
    "llm:model:",
    "llm:models:x",
    `llm:model:${"x".repeat(201)}`,
    "llm:model:a\nb",
  ])("%j is none of ours", (rest) => {
    expect(parseCounterKey(PATTERN, keyOf(rest))).toBeUndefined();
  });

  test("may have a tenant with colons, and none without", () => {
    expect(counterOf("llm:model:x", "org:7:acme").tenant).toBe("org:7:acme");
    expect(parseCounterKey(PATTERN, keyOf("llm:model:x", ""))).toBeUndefined();
    expect(parseCounterKey(PATTERN, "something:else")).toBeUndefined();
  });

  test("loses the prefix that the pattern names", () => {
    const pattern = patternOf("cache:v2:*:usage:*");
    const counter = parseCounterKey(pattern, "cache:v2:acme:usage:type:llm:model:x");
    expect(counter).toMatchObject({ tenant: "acme", type: "llm", model: "x" });
    expect(parseCounterKey(pattern, "acme:usage:type:llm:model:x")).toBeUndefined();
  });

  test.each(["", "*", "**", "a*b", "*b", "a*b*c", "a*b*c*", "?*b*", "[x]*b*", "a\\*b*"])(
    "cannot be read by the pattern %j",
    (text) => {
      expect(parseCounterPattern(text)).toBeUndefined();
    },
  );

  test("with an agent or a conversation counts only where it is part of the base key", () => {
    const keys = ["llm:model:x", "llm:model:x", "llm:model:x:agent:a", "llm:model:x:conv:c"].map(
      (rest) => keyOf(rest),
    );
    const read = (counterDetail: "beside" | "part") =>
      parseCounterKeys(keys, { counterPattern: PATTERN, counterDetail }).length;
    expect([read("beside"), read("part")]).toEqual([1, 3]);
  });
});

const FACTS = {
  scope: scopeOf({ counterPattern: PATTERN, counterDetail: "beside" }),
  isBased: true,
  bookedTenants: new Set<string>(),
  now: Date.UTC(2026, 11, 31, 23, 59, 59, 999),
};
const counter = counterOf("llm:model:x");
const known = (seen: string, generation = 0) => ({ key: counter.key, seen, generation });
const plan = (seen: string | undefined, value: string | null, facts: object = {}) =>
  planCounters([{ counter, known: seen === undefined ? undefined : known(seen), value }], {
    ...FACTS,
    ...facts,
  }).map((move) => [move.kind, move.kind === "gap" ? move.cause : move.value]);

describe("a counter", () => {
  test.each([
    [
      "that nobody knows is only remembered while others are still unknown",
      undefined,
      "70",
      false,
      [["first", "70"]],
    ],
    ["that is new is all growth", undefined, "70", true, [["growth", "70"]]],
    ["that is new and zero is remembered", undefined, "0", true, [["first", "0"]]],
    ["that vanished before it was read is left", undefined, null, true, []],
    ["that stands still is left", "70", "70", true, []],
    ["that grew has growth", "70", "71", true, [["growth", "71"]]],
    ["that fell is a gap", "70", "69", true, [["gap", "counter_fell"]]],
    ["that is gone is a gap", "70", null, true, [["gap", "counter_fell"]]],
    ["that stays gone is left", "0", null, true, []],
    ["that is new and negative is a gap", undefined, "-5", true, [["gap", "counter_fell"]]],
    [
      "that grew by 10^15 has growth",
      "1",
      "1000000000000001",
      true,
      [["growth", "1000000000000001"]],
    ],
    ["that grew by more jumped", "0", "1000000000000001", true, [["gap", "counter_jumped"]]],
    [
      "beyond 2^53 is exact",
      "9007199254740993",
      "9007199254740994",
      true,
      [["growth", "9007199254740994"]],
    ],
  ] as const)("%s", (_, seen, value, isBased, expected) => {
    expect(plan(seen, value, { isBased })).toEqual(expected);
  });

  test("is booked in the month of the poll, and only for its tenant", () => {
    const facts = { ...FACTS, bookedTenants: new Set(["acme"]) };
    const reading = { counter, known: known("1"), value: "5" };
    expect(planCounters([reading], facts)).toMatchObject([
      { books: true, period: 202612, day: 20_818 },
    ]);
    const later = { ...facts, now: Date.UTC(2027, 0, 1) };
    expect(planCounters([reading], later)).toMatchObject([
      { books: true, period: 202701, day: 20_819 },
    ]);
    expect(planCounters([reading], FACTS)).toMatchObject([{ books: false }]);
  });

  test("has an id for each move: scope, key, generation, from and to", () => {
    const uidOf = (seen: string, generation: number, value: string, scope = FACTS.scope) =>
      planCounters([{ counter, known: known(seen, generation), value }], { ...FACTS, scope })[0]
        ?.uid;
    const ids = [
      uidOf("1", 0, "5"),
      uidOf("1", 1, "5"),
      uidOf("2", 0, "5"),
      uidOf("1", 0, "6"),
      uidOf("1", 0, "5", "other"),
    ];
    expect(new Set(ids).size).toBe(5);
    expect(uidOf("1", 0, "5")).toBe(ids[0]);
  });
});

const sides = (parts: Partial<TenantSides> = {}): TenantSides => ({
  tenant: "acme",
  grown: "100",
  direct: "100",
  pending: "0",
  comparedGrown: "0",
  comparedDirect: "0",
  comparedPending: "0",
  apart: "0",
  cause: null,
  setAside: 0,
  ...parts,
});
const NEITHER = { isCounterOnly: false, hasGap: false };
const classify = (parts: Partial<TenantSides>, facts: Partial<typeof NEITHER> = {}) => {
  const comparison = classifyDrift(sides(parts), { ...NEITHER, ...facts });
  if (comparison === undefined) return "nothing";
  const { apart, cause, drift } = comparison;
  return [drift?.tokens ?? null, drift?.cause ?? null, apart, cause];
};

describe("the two sides of a tenant", () => {
  test.each([
    ["agree", {}, {}, [null, null, "0", null]],
    [
      "agree when pending books what direct could not",
      { direct: "60", pending: "40" },
      {},
      [null, null, "0", null],
    ],
    ["did not move", { grown: "0", direct: "0" }, {}, "nothing"],
    [
      "are apart by what is in flight",
      { direct: "90" },
      {},
      ["10", "in_flight", "10", "in_flight"],
    ],
    [
      "come together when it arrives",
      { grown: "0", direct: "10", apart: "10", cause: "in_flight" },
      {},
      ["-10", "settled", "0", null],
    ],
    [
      "stay apart when it never does",
      { grown: "0", direct: "0", apart: "10", cause: "in_flight" },
      {},
      ["0", "not_booked", "10", "not_booked"],
    ],
    [
      "are not reported again for that",
      { grown: "0", direct: "0", apart: "10", cause: "not_booked" },
      {},
      "nothing",
    ],
    [
      "are apart by a record that waits in quarantine",
      { direct: "90", setAside: 1 },
      {},
      ["10", "set_aside", "10", "set_aside"],
    ],
    [
      "are apart because nothing else books",
      { direct: "0" },
      {},
      ["100", "counter_only_producer", "100", "counter_only_producer"],
    ],
    [
      "are apart by a timeout that had committed",
      { pending: "30" },
      {},
      ["-30", "direct_committed_and_pending", "-30", "direct_committed_and_pending"],
    ],
    [
      "are apart by more than was pending",
      { direct: "130", pending: "10" },
      {},
      ["-40", "not_counted", "-40", "not_counted"],
    ],
    [
      "are apart by a counter that fell",
      { direct: "130" },
      { hasGap: true },
      ["-30", "counter_fell", "-30", "counter_fell"],
    ],
    [
      "agree by themselves where the counters book",
      { direct: "0" },
      { isCounterOnly: true },
      [null, null, "0", null],
    ],
    [
      "are apart where other lanes book beside the counters",
      { direct: "5" },
      { isCounterOnly: true },
      ["-5", "booked_by_other_lanes", "-5", "booked_by_other_lanes"],
    ],
    [
      "keep the reason of what is left",
      { grown: "0", direct: "4", apart: "10", cause: "in_flight" },
      {},
      ["-4", "settled", "6", "in_flight"],
    ],
    [
      "beyond 2^53 are exact",
      { grown: "9007199254740993", direct: "9007199254740992" },
      {},
      ["1", "in_flight", "1", "in_flight"],
    ],
  ] as const)("%s", (_, parts, facts, expected) => {
    expect(classify(parts, facts)).toEqual(expected);
  });
});

describe("a page of tenants", () => {
  const page = (isBased = true) => ({
    isBased,
    counters: [{ tenant: "a" }, { tenant: "b" }],
    tenants: [sides({ tenant: "a" }), sides({ tenant: "b", direct: "40" })],
  });
  const base = {
    page: page(),
    moves: [],
    carried: undefined,
    isLast: true,
    counterTenants: new Set<string>(),
  };
  const tenantsOf = (facts: Partial<typeof base>) =>
    planComparisons({ ...base, ...facts }).comparisons.map((it) => it.sides.tenant);

  test("compares all when no counters follow, and hands the last on when some do", () => {
    expect(tenantsOf({})).toEqual(["a", "b"]);
    const { comparisons, unfinished } = planComparisons({ ...base, isLast: false });
    expect(comparisons.map((it) => it.sides.tenant)).toEqual(["a"]);
    expect(unfinished).toEqual({ direct: "40", pending: "0", hasGap: false });
  });

  test("compares a tenant of many pages with what was booked before its first counter was read", () => {
    const carried = { tenant: "a", direct: "70", pending: "5", hasGap: true };
    const [first] = planComparisons({ ...base, carried }).comparisons;
    expect(first).toMatchObject({ apart: "25", sides: { direct: "70", pending: "5" } });
  });

  test("compares nobody before every counter was met once", () => {
    expect(tenantsOf({ page: page(false) })).toEqual([]);
  });

  test("adds what the counters grew by in the same page", () => {
    const grown = counterOf("llm:model:x", "b");
    const moves = planCounters(
      [{ counter: grown, known: { key: grown.key, seen: "5", generation: 0 }, value: "65" }],
      FACTS,
    );
    const [, second] = planComparisons({ ...base, moves }).comparisons;
    expect(second).toMatchObject({ apart: "120", sides: { grown: "160" } });
  });
});
