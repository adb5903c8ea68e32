import fc from "fast-check";
import type { Block, HeadingBlock } from "../../../src/lib/documents/block.ts";

export const heading = (level: HeadingBlock["level"], text: string, page?: number): Block => ({
  kind: "heading",
  level,
  text,
  ...(page === undefined ? {} : { page }),
});
export const paragraph = (text: string, page?: number): Block => ({
  kind: "paragraph",
  text,
  ...(page === undefined ? {} : { page }),
});

const SENTENCES = [
  "El arrendatario pagará la renta dentro de los siete primeros días de cada mes.",
  "Either party may terminate this agreement with ninety days' written notice.",
  "¿Quién responde de los daños ocultos?",
  "Total: 1.234,50 €.",
];

/** About `count` sentences of prose. */
export const prose = (count: number): string =>
  Array.from({ length: count }, (_, i) => `${SENTENCES[i % SENTENCES.length]} (${i})`).join(" ");

const hostileRun = fc
  .tuple(fc.constantFrom("a", "á", "日", "😀", "-", "\n", "a\u0301", ".", "x1"), fc.nat(900))
  .map(([unit, count]) => unit.repeat(count));
const words = fc.array(
  fc.oneof(
    fc.constantFrom(...SENTENCES, "<|endoftext|>", "Sr.", "1.2.3", "\n\n", "‮", "𝒳"),
    fc.string({ unit: "grapheme", maxLength: 12 }),
  ),
  { maxLength: 60 },
);
const text = fc.oneof(
  { weight: 4, arbitrary: words.map((list) => list.join(" ").toWellFormed()) },
  { weight: 1, arbitrary: hostileRun },
);
const page = fc.option(fc.nat(9), { nil: undefined });
const row = fc.array(fc.oneof(fc.constantFrom("", "12", "Madrid"), text), { maxLength: 6 });

/** Documents with everything that divides or fills chunks. */
export const documents: fc.Arbitrary<Block[]> = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.tuple(text, page).map(([t, p]) => paragraph(t, p)) },
    {
      weight: 2,
      arbitrary: fc
        .tuple(
          fc.constantFrom(1, 2, 3, 4, 5, 6),
          fc.oneof(fc.constantFrom("Objeto", "Plazo"), text),
          page,
        )
        .map(([level, t, p]) => heading(level as HeadingBlock["level"], t, p)),
    },
    {
      weight: 1,
      arbitrary: fc.tuple(fc.option(row, { nil: undefined }), fc.array(row, { maxLength: 12 })).map(
        ([header, rows]): Block => ({
          kind: "table",
          rows,
          ...(header === undefined ? {} : { header }),
        }),
      ),
    },
    {
      weight: 1,
      arbitrary: fc
        .constantFrom("Hoja 1", "", "Slide 2")
        .map((title): Block => ({ kind: "section", sort: "sheet", title })),
    },
  ),
  { maxLength: 14 },
);
