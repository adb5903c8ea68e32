import fc from "fast-check";
import { expect, test } from "vitest";
import { cleanLine, cleanText } from "../../../src/lib/documents/read/clean-text.ts";

test.each([
  ["a  b\u00a0 c", "a b c"],
  ["a\r\nb\rc\u2028d", "a\nb\nc\nd"],
  ["a \t  b", "a\tb"],
  [" a \n\n\n\n b ", "a\n\nb"],
  ["a\u0000b\ufeff\u0007c", "abc"],
  ["a\ud800b", "a\ufffdb"],
  ["Peña, 12 €", "Peña, 12 €"],
])("%j becomes %j", (dirty, clean) => {
  expect(cleanText(dirty)).toBe(clean);
});

test("a line has no line ends and no tabs", () => {
  expect(cleanLine("a\n\tb\tc")).toBe("a b c");
});

test("what is clean stays as it is, and is safe to store", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const clean = cleanText(text);
      expect(cleanText(clean)).toBe(clean);
      expect(clean.isWellFormed()).toBe(true);
      expect(clean).not.toMatch(/\0|\r| {2}|\n{3}/);
    }),
  );
});
