import { describe, expect, test } from "vitest";
import type { Block } from "../../../src/lib/documents/block.ts";
import {
  CHUNKS_MAX,
  chunkBlocks,
  chunksOf,
} from "../../../src/lib/documents/chunk/chunk-blocks.ts";
import { cleanedText } from "../../../src/lib/documents/chunk/outline.ts";
import { countTokens } from "../../../src/lib/documents/chunk/tokens.ts";
import { heading, paragraph, prose } from "./blocks.ts";

const table = (header: string[] | undefined, rows: string[][]): Block => ({
  kind: "table",
  rows,
  ...(header === undefined ? {} : { header }),
});
const section = (title: string): Block => ({ kind: "section", sort: "sheet", title });
const contents = (blocks: Block[]) => chunkBlocks(blocks).map(({ content }) => content);
const rows = (count: number): string[][] =>
  Array.from({ length: count }, (_, i) => [
    `F-${i}`,
    "Suministro de material de oficina",
    `${i},50 €`,
  ]);

describe("prose", () => {
  test("fills chunks up to about 350 tokens and repeats up to 40 of the one before", () => {
    const text = prose(120);
    const chunks = chunkBlocks([paragraph(text)]);
    expect(chunks.length).toBeGreaterThan(4);
    for (const [index, { tokens, charFrom }] of chunks.entries()) {
      expect(tokens).toBeLessThanOrEqual(350 + 50);
      if (index < chunks.length - 1) expect(tokens).toBeGreaterThan(280);
      const before = chunks[index - 1];
      if (before === undefined) continue;
      const shared = countTokens(text.slice(charFrom, before.charTo));
      expect(shared).toBeGreaterThan(0);
      expect(shared).toBeLessThanOrEqual(40);
    }
  });

  test("begins its overlap at a sentence where one fits", () => {
    for (const { content } of chunkBlocks([paragraph(prose(120))]))
      expect(content).toMatch(/^(El arrendatario|Either|¿Quién|Total|\()/);
  });

  test("is divided between words when one sentence is longer than a chunk", () => {
    const text = "palabra ".repeat(900).trim();
    for (const content of contents([paragraph(text)]))
      expect(content).toMatch(/^palabra\b.*palabra$/);
  });

  test("knows the pages it comes from", () => {
    const chunks = chunkBlocks([paragraph("Uno.", 3), paragraph("Dos.", 4), paragraph("Tres.")]);
    expect(chunks).toMatchObject([{ pageFrom: 3, pageTo: 4 }]);
    expect(chunkBlocks([paragraph("Sin páginas.")])[0]).not.toHaveProperty("pageFrom");
  });

  test("is Spanish, English, or neither for sure", () => {
    const languages = [
      "El pago de la factura se hará en los plazos.",
      "The payment of the invoice is due on Monday.",
      "Total 42 €",
    ];
    expect(languages.map((text) => chunkBlocks([paragraph(text)])[0]?.language)).toEqual([
      "es",
      "en",
      "und",
    ]);
  });
});

describe("headings", () => {
  test("of level 1 and 2 are borders, and stand in front of what is embedded", () => {
    const chunks = chunkBlocks([
      heading(1, "Contrato"),
      paragraph("Entre las partes."),
      heading(2, "Duración"),
      paragraph(prose(40)),
      heading(2, "Precio"),
      paragraph("Cien euros."),
    ]);
    expect(chunks[0]).toMatchObject({
      content: "Contrato\nEntre las partes.",
      headings: ["Contrato"],
    });
    expect(chunks[0]?.embedText).toBe(chunks[0]?.content);
    expect(chunks[1]?.embedText).toMatch(/^Contrato\nDuración\nEl arrendatario/);
    expect(chunks[2]?.embedText).toMatch(/^Contrato > Duración\n/);
    expect(chunks[2]?.content).not.toContain("Duración");
    expect(chunks.at(-1)).toMatchObject({
      content: "Precio\nCien euros.",
      headings: ["Contrato", "Precio"],
      embedText: "Contrato\nPrecio\nCien euros.",
    });
  });

  test("without text of their own stay with the deeper heading that follows", () => {
    const chunks = chunkBlocks([
      heading(1, "Contrato"),
      heading(2, "Duración"),
      paragraph("Un año."),
    ]);
    expect(chunks).toMatchObject([
      { content: "Contrato\nDuración\nUn año.", headings: ["Contrato", "Duración"] },
    ]);
  });

  test("of deeper levels divide too, but small sections join", () => {
    const long = prose(12);
    const [first, second, third] = chunkBlocks([
      heading(2, "Anexos"),
      heading(3, "A"),
      paragraph("Corto."),
      heading(3, "B"),
      paragraph("También corto."),
      heading(3, "C"),
      paragraph(long),
      heading(3, "D"),
      paragraph(long),
    ]);
    expect(first?.content).toMatch(/^Anexos\nA\nCorto\.\nB\nTambién corto\.\nC\n/);
    expect(first?.headings).toEqual(["Anexos"]);
    expect(second).toMatchObject({
      headings: ["Anexos", "D"],
      embedText: expect.stringMatching(/^Anexos\nD\n/),
    });
    expect(third).toBeUndefined();
  });

  test("change the hash of the chunks below them", () => {
    const hashOf = (title: string) =>
      chunkBlocks([section(title), paragraph("El mismo texto.")])[0]?.sha256;
    expect(hashOf("Hoja 1")).not.toBe(hashOf("Hoja 2"));
  });

  test("in front take at most 60 tokens, the innermost first", () => {
    const deep = ["Uno", "Dos", "Tres"].map((text, i) =>
      heading((i + 1) as 1, `${text} ${"capítulo ".repeat(18)}`),
    );
    const [, second] = chunkBlocks([...deep, paragraph(prose(40))]);
    const prefix = second?.embedText.split("\n")[0] ?? "";
    expect(countTokens(prefix)).toBeLessThanOrEqual(60);
    expect(prefix).toContain("Tres");
    expect(prefix).not.toContain("Uno");
  });
});

describe("sections", () => {
  test("are never crossed, however small", () => {
    const chunks = chunkBlocks([
      section("Enero"),
      paragraph("Uno."),
      section("Febrero"),
      paragraph("Dos."),
    ]);
    expect(chunks).toMatchObject([
      { content: "Uno.", headings: ["Enero"], embedText: "Enero\nUno." },
      { content: "Dos.", headings: ["Febrero"], embedText: "Febrero\nDos." },
    ]);
  });
});

describe("a table", () => {
  test("is divided between rows, and each part begins with the header", () => {
    const blocks = [table(["Factura", "Concepto", "Importe"], rows(80))];
    const parts = contents(blocks);
    expect(parts.length).toBeGreaterThan(2);
    for (const part of parts) {
      expect(part).toMatch(/^Factura\tConcepto\tImporte\nF-/);
      expect(part).toMatch(/,50 €$/);
    }
    const all = parts.flatMap((part) => part.split("\n").slice(1));
    expect(all).toEqual(rows(80).map((row) => row.join("\t")));
  });

  test("does not leave its header at the end of a chunk", () => {
    const blocks = [paragraph(prose(17)), table(["Factura", "Concepto", "Importe"], rows(80))];
    for (let words = 0; words < 40; words += 1) {
      const [first] = contents([paragraph("dato ".repeat(words)), ...blocks]);
      expect(first).not.toMatch(/Importe$/);
    }
  });

  test("divides a row that is too long between its cells, each part under its own header", () => {
    const titles = Array.from({ length: 30 }, (_, i) => `Columna${i}`);
    const row = titles.map((title) => `${title}: ${"dato ".repeat(30).trim()}`);
    const parts = contents([table(titles, [row])]);
    expect(parts.length).toBeGreaterThan(2);
    for (const part of parts.slice(1)) {
      const [header = "", cells = ""] = part.split("\n");
      expect(cells.split("\t").map((cell) => cell.split(":")[0])).toEqual(header.split("\t"));
    }
    expect(parts.slice(1).join("").match(/dato/g)).toHaveLength(30 * 30);
  });

  test("divides a cell that is too long, and names its column above each part", () => {
    const parts = contents([table(["Id", "Nota"], [["7", prose(120)]])]);
    expect(parts.length).toBeGreaterThan(4);
    for (const part of parts.slice(2)) expect(part).toMatch(/^Nota\n/);
  });

  test("without a header repeats nothing", () => {
    const parts = contents([table(undefined, rows(80))]);
    expect(parts.join("\n").split("\n")).toEqual(rows(80).map((row) => row.join("\t")));
  });

  test("has its cells apart by tabs, whatever white space is inside of them", () => {
    expect(
      contents([
        table(
          ["a\nb", "c\td"],
          [
            ["1 \n 2", " 3 "],
            ["", " "],
          ],
        ),
      ]),
    ).toEqual(["a b\tc d\n1 2\t3"]);
  });
});

describe("hostile texts", () => {
  test.each([
    ["a run of one accented letter", "á".repeat(200_000)],
    ["a run of one plain letter", "a".repeat(200_000)],
    ["a run of hyphens", "-".repeat(200_000)],
    ["a run of pictures", "😀".repeat(50_000)],
    ["a run of line ends", `a${"\n".repeat(200_000)}b`],
    ["a run of marks", `e${"\u0301".repeat(100_000)}`],
    ["one sentence of a million letters", "palabra ".repeat(125_000)],
    ["sentences of one letter", "a. ".repeat(60_000)],
  ])("%s is divided in time", (_name, text) => {
    const startedAt = process.cpuUsage();
    const chunks = chunkBlocks([paragraph(text)]);
    const { user } = process.cpuUsage(startedAt);
    expect(user / 1e6).toBeLessThan(8);
    for (const { tokens, content } of chunks) {
      expect(tokens).toBeLessThanOrEqual(512);
      expect(content.length).toBeLessThanOrEqual(8192 + 512);
      expect(content.isWellFormed()).toBe(true);
    }
  });

  test("names of special tokens are text", () => {
    expect(contents([paragraph("Antes <|endoftext|> después <|im_start|>")])).toEqual([
      "Antes <|endoftext|> después <|im_start|>",
    ]);
  });

  test("more than 20,000 chunks are refused by name, as soon as they are there", () => {
    const blocks = function* (): Generator<Block> {
      for (let i = 0; ; i += 1) yield* [section(`${i}`), paragraph("x")];
    };
    let count = 0;
    const readAll = () => {
      for (const _ of chunksOf(blocks())) count += 1;
    };
    expect(readAll).toThrow(
      expect.objectContaining({ code: "document_too_many_chunks", kind: "permanent" }),
    );
    expect(count).toBe(CHUNKS_MAX);
  });
});

test("a document without text has no chunks", () => {
  expect(chunkBlocks([])).toEqual([]);
  expect(chunkBlocks([section("Hoja"), paragraph(" \n "), table(["", " "], [[""]])])).toEqual([]);
});

test("options that would never end are refused", () => {
  expect(() => chunkBlocks([], { overlap: 175 })).toThrow();
  expect(() => chunkBlocks([], { target: 600 })).toThrow();
  expect(() => chunkBlocks([], { overlap: -1 })).toThrow();
});

test("the cleaned text is the blocks in order, one below the other", () => {
  const blocks = [
    heading(1, "T"),
    section("S"),
    table(["a"], [["b"]]),
    paragraph(" "),
    paragraph("p"),
  ];
  expect(cleanedText(blocks)).toBe("T\na\nb\np");
});
