import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseMember, reviseMember } from "../../src/lib/usage/legacy/pending-record.ts";
import { planPending } from "../../src/lib/usage/legacy/plan-pending.ts";

const NOW = Date.UTC(2026, 10, 24, 12);
const RECORD = {
  tenant_id: "acme",
  tokens: 42,
  model: "gpt-4o",
  agent_id: "a1",
  conversation_id: "c1",
  token_type: "llm",
  timestamp: 1_795_480_000.123456,
  retry_count: 0,
  operation: "query",
  metadata: { secret: "not kept" },
};
const { metadata: _metadata, ...BARE } = RECORD;

const parse = (member: string | object) =>
  parseMember(typeof member === "string" ? member : JSON.stringify(member), NOW);
const useOf = (member: string | object) => {
  const parsed = parse(member);
  if (parsed.kind === "bad") throw new Error(`set aside: ${parsed.bad.error}`);
  return parsed.use;
};
const faultOf = (member: string | object) => {
  const parsed = parse(member);
  return parsed.kind === "bad" ? parsed.bad.error : "none";
};

describe("a member of the pending set", () => {
  test("becomes a use with the time, amount and dimensions of the record", () => {
    expect(useOf(RECORD)).toEqual({
      uid: "646955f3-2563-89c3-76e3-e943e8a3b55e",
      tenant: "acme",
      tokens: "42",
      period: 202611,
      billPeriod: 202611,
      day: 20_781,
      type: "llm",
      model: "gpt-4o",
      agent: "a1",
      conversation: "c1",
      replayOf: "",
    });
  });

  test.each([
    ["the order of its keys", Object.fromEntries(Object.entries(RECORD).reverse())],
    ["the number of retries", { ...RECORD, retry_count: 7 }],
    ["its metadata", BARE],
    ["JSON around JSON", JSON.stringify(JSON.stringify(RECORD))],
    ["white space", JSON.stringify(RECORD, null, 4)],
    ["a fraction of zero", JSON.stringify(RECORD).replace(":42,", ":42.0,")],
    ["an exponent", JSON.stringify(RECORD).replace(":42,", ":4.2e1,")],
    ["an escaped letter", JSON.stringify(RECORD).replace("acme", "\\u0061cme")],
    [
      "a time as an exponent",
      JSON.stringify(RECORD).replace(/1795480000.123456/, "1.795480000123456e9"),
    ],
  ])("keeps its id whatever %s", (_, member) => {
    expect(useOf(member).uid).toBe(useOf(RECORD).uid);
  });

  test.each([
    ["model", { model: null }, { model: "" }, { model: undefined }],
    ["agent_id", { agent_id: null }, { agent_id: "" }, { agent_id: undefined }],
    ["operation", { operation: null }, { operation: "" }, { operation: undefined }],
    ["token_type", { token_type: "llm" }, { token_type: null }, { token_type: undefined }],
  ])("keeps its id whether %s is null, empty or absent", (_, ...variants) => {
    const ids = variants.map((variant) => useOf({ ...RECORD, ...(variant as object) }).uid);
    expect(new Set(ids).size).toBe(1);
  });

  test.each([
    { tenant_id: "acme2" },
    { tokens: 43 },
    { model: "gpt-4" },
    { agent_id: "a2" },
    { conversation_id: "c2" },
    { token_type: "embedding" },
    { timestamp: 1_795_480_000.123457 },
    { operation: "summary" },
    { agent_id: "c1", conversation_id: "a1" },
  ])("with %j is another use", (change) => {
    expect(useOf({ ...RECORD, ...change }).uid).not.toBe(useOf(RECORD).uid);
  });

  test("takes numeric ids for what they look like as text", () => {
    const numeric = { ...RECORD, tenant_id: 7, agent_id: 12 };
    expect(useOf(numeric)).toMatchObject({ tenant: "7", agent: "12" });
    expect(useOf(numeric).uid).toBe(useOf({ ...RECORD, tenant_id: "7", agent_id: "12" }).uid);
  });

  test.each([
    [Date.UTC(2026, 11, 31, 23, 59, 59) / 1000 + 0.999999, 202612, 20_818],
    [Date.UTC(2027, 0, 1) / 1000, 202701, 20_819],
    [Date.UTC(2026, 10, 30, 23, 59, 59) / 1000 + 0.9999, 202611, 20_787],
  ])("at %d s belongs to month %d and day %d", (timestamp, period, day) => {
    const late = Date.UTC(2027, 0, 2);
    const parsed = parseMember(JSON.stringify({ ...RECORD, timestamp }), late);
    expect(parsed).toMatchObject({ kind: "use", use: { period, billPeriod: period, day } });
  });

  test("that claims to lie in a later month is billed in the present one", () => {
    const timestamp = Date.UTC(2027, 2, 3) / 1000;
    expect(useOf({ ...RECORD, timestamp })).toMatchObject({ period: 202703, billPeriod: 202611 });
  });

  test("whose clock is some minutes ahead is not moved", () => {
    const now = Date.UTC(2026, 10, 30, 23, 58);
    const timestamp = Date.UTC(2026, 11, 1, 0, 1) / 1000;
    const parsed = parseMember(JSON.stringify({ ...RECORD, timestamp }), now);
    expect(parsed).toMatchObject({ use: { period: 202612, billPeriod: 202612 } });
  });
});

const DEEP = `${"[".repeat(30_000)}${"]".repeat(30_000)}`;
const MALFORMED: readonly (readonly [what: string, member: string, fault: string])[] = [
  ["is empty", "", "not_json"],
  ["is no JSON", "tenant=acme;tokens=5", "not_json"],
  ["is cut off", JSON.stringify(RECORD).slice(0, -1), "not_json"],
  ["has single quotes", "{'tenant_id': 'acme'}", "not_json"],
  ["says NaN", JSON.stringify(RECORD).replace(":42,", ":NaN,"), "not_json"],
  ["holds a raw NUL", `${JSON.stringify(RECORD)}\u0000`, "not_json"],
  ["is a number", "42", "not_a_record"],
  ["is null", "null", "not_a_record"],
  ["is a list", JSON.stringify([RECORD]), "not_a_record"],
  ["is text", '"acme"', "not_a_record"],
  ["is nested deeply", DEEP, "not_a_record"],
  ["has no tenant", JSON.stringify({ ...RECORD, tenant_id: undefined }), "tenant"],
  ["has an empty tenant", JSON.stringify({ ...RECORD, tenant_id: "" }), "tenant"],
  ["has a tenant with NUL", JSON.stringify({ ...RECORD, tenant_id: "a\u0000b" }), "tenant"],
  ["has a long tenant", JSON.stringify({ ...RECORD, tenant_id: "x".repeat(201) }), "tenant"],
  ["has half a character", JSON.stringify({ ...RECORD, tenant_id: "\ud800" }), "tenant"],
  ["has a tenant object", JSON.stringify({ ...RECORD, tenant_id: { id: 1 } }), "tenant"],
  ["has no tokens", JSON.stringify({ ...RECORD, tokens: undefined }), "tokens"],
  ["has a part of a token", JSON.stringify({ ...RECORD, tokens: 1.5 }), "tokens"],
  ["has negative tokens", JSON.stringify({ ...RECORD, tokens: -1 }), "tokens"],
  ["has tokens as text", JSON.stringify({ ...RECORD, tokens: "42" }), "tokens"],
  ["has more than 10^15 tokens", JSON.stringify({ ...RECORD, tokens: 1e15 + 1 }), "tokens"],
  ["has infinite tokens", JSON.stringify(RECORD).replace(":42,", ":1e999,"), "tokens"],
  ["has no time", JSON.stringify({ ...RECORD, timestamp: undefined }), "timestamp"],
  ["has a time as text", JSON.stringify({ ...RECORD, timestamp: "2026-11-24" }), "timestamp"],
  ["has a time in ms", JSON.stringify({ ...RECORD, timestamp: NOW }), "timestamp"],
  ["has another type", JSON.stringify({ ...RECORD, token_type: "image" }), "type"],
  ["has a model with a tab", JSON.stringify({ ...RECORD, model: "a\tb" }), "dimensions"],
  ["has a model list", JSON.stringify({ ...RECORD, model: ["gpt"] }), "dimensions"],
  ["is 1 MB", JSON.stringify({ ...RECORD, metadata: "x".repeat(1_000_000) }), "too_large"],
  [
    "is 36 days old",
    JSON.stringify({ ...RECORD, timestamp: NOW / 1000 - 36 * 86_400 }),
    "occurred_too_old",
  ],
];

describe("a malformed member", () => {
  test.each(MALFORMED)("that %s is set aside", (_, member, fault) => {
    expect(faultOf(member)).toBe(fault);
  });

  test("is kept to the character, in text that Postgres can hold", () => {
    const parsed = parse("x\u0000\ud800\ny");
    expect(parsed).toMatchObject({
      kind: "bad",
      bad: { raw: '["legacy_pending","x\\u0000\\ud800\\ny"]', isComplete: true, tenant: null },
    });
  });

  test("says whose it seems to be, and of which month", () => {
    const parsed = parse({ ...RECORD, token_type: "image" });
    expect(parsed).toMatchObject({ bad: { tenant: "acme", period: 202611, tokens: "42" } });
  });

  test("that is too long is kept in part, with its length and hash, and stays in the set", () => {
    const long = "x".repeat(20_000);
    const parsed = parse(long);
    expect(parsed.kind === "bad" && parsed.bad.raw).toMatch(
      /^\["legacy_pending","x+… \(20021 characters, sha256 [0-9a-f]{64}\)$/,
    );
    expect(planPending([long, "short", JSON.stringify(RECORD)], NOW).removable).toEqual([
      "short",
      JSON.stringify(RECORD),
    ]);
  });

  test("is judged once more from its raw value, whatever its age", () => {
    const parsed = parse({ ...RECORD, timestamp: NOW / 1000 - 36 * 86_400 });
    const raw = parsed.kind === "bad" ? parsed.bad.raw : "";
    expect(reviseMember(raw, NOW)).toMatchObject({
      kind: "use",
      use: { tokens: "42", period: 202610 },
    });
    expect(reviseMember('["legacy_pending","x"]', NOW)).toEqual({
      kind: "fault",
      error: "not_json",
    });
    expect(reviseMember('["legacy_pending","xx… (20021 characters', NOW)).toEqual({
      kind: "fault",
      error: "too_large",
    });
    expect(reviseMember('["d","1|2|3"]', NOW)).toBeUndefined();
  });

  test("of any text and any JSON never throws", () => {
    const anything = fc.oneof(fc.string({ unit: "binary" }), fc.json());
    fc.assert(fc.property(anything, (member) => void parseMember(member, NOW)));
  });

  test("with any value in any field never throws, and what passes is plain", () => {
    const field = fc.constantFrom(...Object.keys(RECORD));
    const value = fc.oneof(fc.jsonValue(), fc.double(), fc.string({ unit: "binary" }));
    fc.assert(
      fc.property(field, value, (name, given) => {
        const parsed = parseMember(JSON.stringify({ ...RECORD, [name]: given }), NOW);
        if (parsed.kind === "bad") return;
        expect(parsed.use.tokens).toMatch(/^(0|[1-9]\d{0,15})$/);
        expect(parsed.use.tenant).toMatch(/^[^\p{Cc}]{1,200}$/u);
      }),
    );
  });
});

test("a page that names a member twice holds it once", () => {
  const member = JSON.stringify(RECORD);
  expect(planPending([member, member], NOW)).toMatchObject({
    uses: [{ tokens: "42" }],
    removable: [member],
  });
});
