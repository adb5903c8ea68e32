import { createHash, randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  findApiKey,
  isGranted,
  isInScope,
  parseApiKeys,
  ROLES,
  type Role,
} from "../../src/lib/kernel/api-keys.ts";

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
const entry = (name: string, role: string, secret: string): string =>
  `${name}:${role}:sha256:${sha256(secret)}`;

const keysOf = (text: string) => {
  const parsed = parseApiKeys(text);
  if (parsed.kind === "invalid") throw new Error(parsed.reason);
  return parsed.keys;
};
const reasonOf = (text: string): string => {
  const parsed = parseApiKeys(text);
  return parsed.kind === "invalid" ? parsed.reason : "accepted";
};

describe("parseApiKeys", () => {
  test("reads entries separated by commas and white space", () => {
    const text = `${entry("a", "viewer", "1")}, ${entry("b", "operator", "2")}\n${entry("c", "admin", "3")},`;
    expect(keysOf(text)).toEqual([
      { name: "a", role: "viewer", sha256: sha256("1") },
      { name: "b", role: "operator", sha256: sha256("2") },
      { name: "c", role: "admin", sha256: sha256("3") },
    ]);
  });

  test("reads the scopes of an entry", () => {
    expect(keysOf(`${entry("a", "viewer", "1")}:usage+dead-letters`)).toMatchObject([
      { name: "a", scopes: ["usage", "dead-letters"] },
    ]);
  });

  test("reads nothing from an empty text", () => {
    expect(keysOf(" ,\n ")).toEqual([]);
  });

  test("reads hash digits of either case", () => {
    expect(
      keysOf(entry("a", "viewer", "1").toUpperCase().replace("A:VIEWER:SHA256", "a:viewer:sha256")),
    ).toEqual([{ name: "a", role: "viewer", sha256: sha256("1") }]);
  });

  test("allows two keys of one name, so that a key can be replaced without a gap", () => {
    expect(keysOf(`${entry("a", "viewer", "old")},${entry("a", "viewer", "new")}`)).toHaveLength(2);
  });

  test("refuses the same key twice, whatever the roles", () => {
    const text = `${entry("a", "viewer", "1")},${entry("b", "admin", "1")}`;
    expect(reasonOf(text)).toBe("entry 2 repeats the key of an earlier entry");
  });

  test.each([
    "",
    "a",
    "a:viewer",
    `a:root:sha256:${sha256("1")}`,
    `A:viewer:sha256:${sha256("1")}`,
    `${"a".repeat(41)}:viewer:sha256:${sha256("1")}`,
    `a:viewer:md5:${sha256("1")}`,
    `a:viewer:sha256:${sha256("1").slice(1)}`,
    `a:viewer:sha256:${sha256("1")}0`,
    `a:viewer:sha256:${"g".repeat(64)}`,
    `:viewer:sha256:${sha256("1")}`,
    `a:viewer:sha256:${sha256("1")}:`,
    `a:viewer:sha256:${sha256("1")}:usage+`,
    `a:viewer:sha256:${sha256("1")}:Usage`,
    `a:viewer:sha256:${sha256("1")}:usage:cron`,
  ])("refuses %j by its position and does not repeat it", (bad) => {
    const reason = reasonOf(`${entry("ok", "viewer", "0")},${bad || "?"}`);
    expect(reason).toBe("entry 2 is not name:role:sha256:<64 hex digits>[:scopes]");
  });

  test("never repeats a character of what it refuses", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 30 }), (text) => {
        const parsed = parseApiKeys(text);
        return parsed.kind === "keys" || !parsed.reason.includes(text.trim());
      }),
    );
  });
});

describe("findApiKey", () => {
  const secret = randomBytes(32).toString("base64url");
  const keys = keysOf(`${entry("one", "viewer", "other")},${entry("two", "operator", secret)}`);

  test("finds the key by its secret", () => {
    expect(findApiKey(keys, secret)).toMatchObject({ name: "two", role: "operator" });
  });

  test.each(["", secret.slice(1), `${secret} `, secret.toUpperCase(), sha256(secret)])(
    "finds none for a text that is not the secret",
    (text) => {
      expect(findApiKey(keys, text)).toBeUndefined();
    },
  );

  test("finds none when there are no keys", () => {
    expect(findApiKey([], secret)).toBeUndefined();
  });
});

describe("a role", () => {
  const GRANTED: Record<Role, readonly Role[]> = {
    producer: ["producer"],
    viewer: ["viewer"],
    operator: ["producer", "viewer", "operator"],
    admin: ["producer", "viewer", "operator", "admin"],
  };

  test.each(ROLES.flatMap((has) => ROLES.map((needs) => ({ has, needs }))))(
    "$has may do what $needs may, or not, as the table says",
    ({ has, needs }) => {
      expect(isGranted(has, needs)).toBe(GRANTED[has].includes(needs));
    },
  );
});

test.each([
  [undefined, "/anything", true],
  [["usage"], "/usage/{tenant}", true],
  [["usage"], "/usage-runs", true],
  [["usage"], "/usages", false],
  [["usage"], "/cron/usage", false],
  [["status", "cron"], "/cron/jobs", true],
  [["status", "cron"], "/jobs", false],
])("the scopes %j cover %s: %s", (scopes, path, isCovered) => {
  expect(isInScope(scopes, path)).toBe(isCovered);
});
