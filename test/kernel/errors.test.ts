import { describe, expect, expectTypeOf, test } from "vitest";
import { ERROR_CODES, type ErrorCode } from "../../src/lib/kernel/error-codes.ts";
import {
  AppError,
  type ErrorKind,
  invariant,
  permanent,
  toFailure,
  transient,
} from "../../src/lib/kernel/errors.ts";

const CODES = Object.entries(ERROR_CODES);

describe("the table of codes", () => {
  test.each(CODES)(
    "%s is snake_case, has a title without data and a status that fits",
    (code, row) => {
      expect(code).toMatch(/^[a-z][a-z0-9]*(_[a-z0-9]+)+$|^unclassified$/);
      expect(row.title).toMatch(/^[A-Z][^{}$]{5,80}[^.]$/);
      expect(row.status).toBeGreaterThanOrEqual(400);
      expect(row.status).toBeLessThan(600);
    },
  );

  test.each(CODES)("%s has the status that its kind promises", (_code, { kind, status }) => {
    const allowed: Record<ErrorKind, (status: number) => boolean> = {
      transient: (s) => s === 503 || s === 429,
      permanent: (s) => s !== 429,
      bug: (s) => s === 500,
    };
    expect(allowed[kind](status)).toBe(true);
  });
});

describe("an error", () => {
  test("has the title of its code as message, unless it is given one", () => {
    expect(permanent("route_unknown").message).toBe(ERROR_CODES.route_unknown.title);
    expect(new AppError("bug", "invariant_broken", { message: "own" }).message).toBe("own");
  });

  test("keeps kind, code, details and cause", () => {
    const cause = new Error("socket hang up");
    const error = transient("redis_unavailable", { retryAfterMs: 250 }, cause);
    expect(error).toMatchObject({
      name: "AppError",
      kind: "transient",
      code: "redis_unavailable",
      details: { retryAfterMs: 250 },
      cause,
    });
  });

  test("has no cause of its own when it was given none", () => {
    expect("cause" in permanent("route_unknown")).toBe(false);
    expect(permanent("route_unknown").details).toEqual({});
  });

  test("can carry listed codes only", () => {
    expectTypeOf(permanent).parameter(0).toEqualTypeOf<ErrorCode>();
  });
});

describe("invariant", () => {
  test("is silent while it holds", () => {
    expect(() => invariant(true, "one is one")).not.toThrow();
  });

  test("throws a bug that says what does not hold", () => {
    const failed = () => invariant(false, "one is two");
    expect(failed).toThrow(AppError);
    expect(failed).toThrow(
      expect.objectContaining({
        kind: "bug",
        code: "invariant_broken",
        details: { what: "one is two" },
      }),
    );
  });

  test("takes a code of its own", () => {
    expect(() => invariant(false, "x", "redis_reply_unexpected")).toThrow(
      expect.objectContaining({ code: "redis_reply_unexpected" }),
    );
  });
});

describe("toFailure", () => {
  test("keeps what an AppError says about itself", () => {
    const error = permanent("method_not_allowed", { allow: "GET" });
    expect(toFailure(error)).toEqual({
      kind: "permanent",
      code: "method_not_allowed",
      details: { allow: "GET" },
      error,
      isCallers: true,
    });
  });

  test.each(CODES)(
    "of %s is the caller's doing exactly when its status is below 500",
    (code, row) => {
      const failure = toFailure(new AppError(row.kind, code as ErrorCode));
      expect(failure.isCallers).toBe(row.status < 500);
    },
  );

  test("takes an unknown error for transient and keeps it", () => {
    const error = new TypeError("x is not a function");
    expect(toFailure(error)).toEqual({
      kind: "transient",
      code: "unclassified",
      details: {},
      error,
      isCallers: false,
    });
  });

  test.each([
    ["a string with a secret"],
    [42],
    [null],
    [undefined],
    [{ message: "a secret" }],
    [Symbol("s")],
  ])("makes an error of the thrown value %o and says its type only", (thrown) => {
    const { error, code, kind } = toFailure(thrown);
    expect(error).toBeInstanceOf(Error);
    expect(error.message).toBe(`thrown value: ${typeof thrown}`);
    expect([kind, code]).toEqual(["transient", "unclassified"]);
  });
});
