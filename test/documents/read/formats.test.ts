import { describe, expect, test } from "vitest";
import { msgOf } from "../../support/document-fixtures/compound-files.ts";
import {
  docxOf,
  inlineRows,
  odtOf,
  pptxOf,
  wordParagraph,
  wordTable,
  xlsxOf,
} from "../../support/document-fixtures/office.ts";
import { linesAt, pdfOf, pdfOfStreams, showText } from "../../support/document-fixtures/pdfs.ts";
import { readHere, textOf } from "../../support/document-fixtures/read-world.ts";

describe("PDF", () => {
  test("keeps the cells of a table without lines apart, and pages with their numbers", async () => {
    const row = (y: number, cells: readonly string[]) =>
      cells.map((text, at) => ({ text, x: 60 + at * 140, y }));
    const bytes = await pdfOf([
      [...row(700, ["Producto", "Precio"]), ...row(686, ["Silla", "45,50"])],
      [{ text: "Fin", y: 700 }],
    ]);
    const { blocks, pages } = await readHere("a.pdf", bytes);
    expect(pages).toBe(2);
    expect(blocks).toEqual([
      { kind: "paragraph", text: "Producto\tPrecio\nSilla\t45,50", page: 1 },
      { kind: "paragraph", text: "Fin", page: 2 },
    ]);
  });

  test("takes larger lines for headings, and a wider gap for a new paragraph", async () => {
    const bytes = await pdfOf([
      [
        { text: "Contrato", y: 780, size: 20 },
        { text: "Primera frase del contrato que dura", y: 740 },
        { text: "hasta la segunda línea.", y: 726 },
        { text: "Otro párrafo empieza aquí abajo, y es largo.", y: 690 },
        { text: "Todavía el mismo párrafo de antes.", y: 676 },
      ],
    ]);
    const { blocks } = await readHere("a.pdf", bytes);
    expect(blocks.map(({ kind }) => kind)).toEqual(["heading", "paragraph", "paragraph"]);
    expect(blocks[0]).toEqual({ kind: "heading", level: 1, text: "Contrato", page: 1 });
  });

  test("peels running headers and page numbers off, and rejoins divided words", async () => {
    const page = (number: number) =>
      linesAt([
        "Informe anual 2026",
        `Capítulo ${number} con infor-`,
        `mación propia, que en la parte ${number} es más larga que todo`,
        `lo que se repite, para que quede casi todo el texto ${number}.`,
        `Página ${number} de 5`,
      ]);
    const { blocks } = await readHere("a.pdf", await pdfOf([1, 2, 3, 4, 5].map(page)));
    expect(textOf({ blocks })).toContain("Capítulo 3 con información propia,");
    expect(textOf({ blocks })).not.toMatch(/Informe anual|Página/);
  });

  test("keeps a form that is the same on every page", async () => {
    const form = linesAt(["Solicitud de alta", "Nombre:", "Firma:"]);
    const { blocks } = await readHere("a.pdf", await pdfOf([form, form, form, form, form]));
    expect(textOf({ blocks }).match(/Solicitud/g)).toHaveLength(5);
  });

  test("reads a damaged page as far as it goes, with a warning", async () => {
    const damaged = `${showText("Principio")} BT /F1 12 Tf 60 600 Td [(x) ] TJ << /broken ( ET`;
    const bytes = pdfOfStreams([showText("Primera"), damaged, showText("Tercera")]);
    const { blocks, warnings } = await readHere("a.pdf", bytes);
    expect(textOf({ blocks })).toMatch(/Primera[\s\S]*Tercera/);
    expect(warnings).toEqual([{ code: "page_damaged", page: 2 }]);
  });
});

describe("Word", () => {
  test("finds headings by name, outline level and base of their style, and keeps tables in order", async () => {
    const body = [
      wordParagraph("Contrato", "Ttulo1"),
      wordParagraph("Texto."),
      wordTable([
        ["Mes", "Renta"],
        ["Enero", "950"],
      ]),
      wordParagraph("Duración", "Propio"),
      wordParagraph("Anexo", "Derivado"),
    ].join("");
    const bytes = docxOf(body, [
      { id: "Ttulo1", name: "heading 1" },
      { id: "Propio", name: "Mi estilo", outlineLevel: 1 },
      { id: "Derivado", name: "Anexo", basedOn: "Ttulo1" },
    ]);
    expect((await readHere("a.docx", bytes)).blocks).toEqual([
      { kind: "heading", level: 1, text: "Contrato" },
      { kind: "paragraph", text: "Texto." },
      { kind: "table", header: ["Mes", "Renta"], rows: [["Enero", "950"]] },
      { kind: "heading", level: 2, text: "Duración" },
      { kind: "heading", level: 1, text: "Anexo" },
    ]);
  });

  test("styles that are based on each other are no headings, and no endless loop", async () => {
    const bytes = docxOf(wordParagraph("Texto", "A"), [
      { id: "A", name: "uno", basedOn: "B" },
      { id: "B", name: "dos", basedOn: "A" },
    ]);
    expect((await readHere("a.docx", bytes)).blocks).toEqual([
      { kind: "paragraph", text: "Texto" },
    ]);
  });
});

test("slides are sections with their titles, texts and notes, and count as pages", async () => {
  const bytes = pptxOf([
    { title: "Ventas", body: "Suben un 4 %.", notes: "Decirlo despacio." },
    { title: "Costes", body: "Bajan." },
  ]);
  const { blocks, pages } = await readHere("a.pptx", bytes);
  expect(pages).toBe(2);
  expect(blocks.filter(({ kind }) => kind === "section")).toEqual([
    { kind: "section", sort: "slide", title: "Ventas", page: 1 },
    { kind: "section", sort: "slide", title: "Costes", page: 2 },
  ]);
  expect(textOf({ blocks })).toMatch(/Suben[\s\S]*despacio[\s\S]*Costes[\s\S]*Bajan/);
});

test("OpenDocument texts keep headings, paragraphs and tables", async () => {
  const bytes = odtOf(
    '<text:h text:outline-level="2">Título</text:h><text:p>Párrafo.</text:p><table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell><table:table-cell><text:p>b</text:p></table:table-cell></table:table-row></table:table>',
  );
  const { type, blocks } = await readHere("a.odt", bytes);
  expect(type).toBe("odt");
  expect(blocks).toEqual([
    { kind: "heading", level: 2, text: "Título" },
    { kind: "paragraph", text: "Párrafo." },
    { kind: "table", header: ["a", "b"], rows: [] },
  ]);
});

describe("spreadsheets", () => {
  test("give every type of cell as a person sees it", async () => {
    const rows =
      '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>' +
      '<row r="2"/><row r="3"><c r="A3" s="1"><v>45351</v></c><c r="B3" s="1"><v>45351.5</v></c><c r="D3"><v>0.30000000000000004</v></c></row>' +
      '<row r="4"><c r="A4" t="b"><v>1</v></c><c r="B4" t="e"><v>#DIV/0!</v></c><c r="C4" t="str"><f>A1&amp;B1</f><v>calculado</v></c><c r="D4" s="2"><v>12.5</v></c></row>';
    const strings =
      "<si><t>Peña &amp; Hijos</t></si><si><r><t>rico </t></r><r><t>texto</t></r><rPh><t>トウ</t></rPh></si>";
    const bytes = xlsxOf(
      [
        { name: "Datos", rows },
        { name: "Oculta", rows: inlineRows([["secreto"]]), isHidden: true },
      ],
      { strings, formats: ["dd/mm/yyyy hh:mm", '0.00" días"'] },
    );
    expect((await readHere("a.xlsx", bytes)).blocks).toEqual([
      { kind: "section", sort: "sheet", title: "Datos" },
      {
        kind: "table",
        header: ["Peña & Hijos", "rico texto"],
        rows: [
          ["2024-02-29", "2024-02-29 12:00:00", "", "0.3"],
          ["TRUE", "#DIV/0!", "calculado", "12.5"],
        ],
      },
      { kind: "section", sort: "sheet", title: "Oculta", isHidden: true },
      { kind: "table", header: ["secreto"], rows: [] },
    ]);
  });

  test("count days from 1904 where the workbook says so", async () => {
    const rows = '<row r="1"><c r="A1" s="1"><v>0</v></c><c r="B1" s="1"><v>1</v></c></row>';
    const bytes = xlsxOf([{ name: "S", rows }], { formats: ["yyyy"], is1904: true });
    expect(textOf(await readHere("a.xlsx", bytes))).toBe("S\n1904-01-01\t1904-01-02");
  });
});

describe("HTML", () => {
  const page = (body: string) => `<!doctype html><title>T</title><body>${body}`;

  test("gives headings, lists, tables and alternative texts, and nothing that runs or is hidden", async () => {
    const { blocks } = await readHere(
      "a.html",
      page(
        "<h2>Oferta</h2><p>Piso <b>céntrico</b>.<br>Con luz.</p><ul><li>uno<li>dos</ul>" +
          '<table><tr><th>Mes<th>Renta<tr><td>Enero<td>950</table><img alt="plano" src="data:image/png;base64,QUJD">' +
          "<script>alert(1)</script><style>p{color:red}</style><iframe src='http://127.0.0.1'></iframe>",
      ),
    );
    expect(blocks).toEqual([
      { kind: "heading", level: 2, text: "Oferta" },
      { kind: "paragraph", text: "Piso céntrico.\nCon luz." },
      { kind: "paragraph", text: "- uno" },
      { kind: "paragraph", text: "- dos" },
      { kind: "table", header: ["Mes", "Renta"], rows: [["Enero", "950"]] },
      { kind: "paragraph", text: "plano" },
    ]);
  });

  test("leaves the navigation around an article out", async () => {
    const article = Array.from(
      { length: 12 },
      (_, at) =>
        `<p>El párrafo número ${at} cuenta, con varias comas, algo del contrato y del piso.</p>`,
    ).join("");
    const { blocks } = await readHere(
      "a.html",
      page(
        `<nav><a href="/">Inicio</a> <a href="/x">Contacto</a></nav><article>${article}</article>`,
      ),
    );
    expect(textOf({ blocks })).toContain("número 11");
    expect(textOf({ blocks })).not.toContain("Contacto");
  });

  test("walks tables that only lay out a page", async () => {
    const layout = "<table><tr><td><h1>A</h1><td><table><tr><td>b<td>c</table></table>";
    expect(textOf(await readHere("a.html", page(layout)))).toBe("A\nb\tc");
  });
});

test("Markdown gives headings of both kinds and tables, and no headings inside of code", async () => {
  const { blocks } = await readHere(
    "a.md",
    "# Uno #\n\ntexto\n\nDos\n---\n\n```sh\n# nada\n```\n\n| a | b \\| c |\n|---|---|\n| 1 | 2 |\n",
  );
  expect(blocks).toEqual([
    { kind: "heading", level: 1, text: "Uno" },
    { kind: "paragraph", text: "texto" },
    { kind: "heading", level: 2, text: "Dos" },
    { kind: "paragraph", text: "```sh\n# nada\n```" },
    { kind: "table", header: ["a", "b | c"], rows: [["1", "2"]] },
  ]);
});

test.each([
  [
    "semicolons with decimal commas",
    "a;b\n1.234,50;2,5\n",
    [
      ["a", "b"],
      ["1.234,50", "2,5"],
    ],
  ],
  [
    "tabs",
    "a\tb\n1,5\t2\n",
    [
      ["a", "b"],
      ["1,5", "2"],
    ],
  ],
  [
    "quoted separators",
    'a,b\n"x; y; z","p, q"\n',
    [
      ["a", "b"],
      ["x; y; z", "p, q"],
    ],
  ],
  ["rows of different lengths", "a,b\n1,2,3\n4\n", [["a", "b"], ["1", "2", "3"], ["4"]]],
])("CSV is read with %s", async (_, text, [header, ...rows]) => {
  expect((await readHere("a.csv", text)).blocks).toEqual([{ kind: "table", header, rows }]);
});

describe("mails", () => {
  const mail = (headers: readonly string[], body: string) =>
    [
      ...headers,
      "MIME-Version: 1.0",
      "From: a@example.com",
      "Subject: =?utf-8?q?Reuni=C3=B3n?=",
      "",
      body,
    ].join("\r\n");
  const part = (headers: readonly string[], body: string) =>
    ["--b", ...headers, "", body, ""].join("\r\n");
  const mixed = (...parts: string[]) =>
    mail(['Content-Type: multipart/mixed; boundary="b"'], `${parts.join("")}--b--\r\n`);

  test("give subject and text, and never the HTML as well", async () => {
    const eml = mail(
      ['Content-Type: multipart/alternative; boundary="b"'],
      `${part(["Content-Type: text/plain"], "Hola a todos")}${part(["Content-Type: text/html"], "<p>Hola a todos</p>")}--b--`,
    );
    const { type, blocks, meta } = await readHere("sin-extension", eml);
    expect(type).toBe("eml");
    expect(blocks).toEqual([
      { kind: "heading", level: 1, text: "Reunión" },
      { kind: "paragraph", text: "Hola a todos" },
    ]);
    expect(meta).toEqual({ title: "Reunión" });
  });

  test("give their attachments as sections, and a warning for each that cannot be read", async () => {
    const attached = (name: string, body: string) =>
      part(
        [
          `Content-Type: application/octet-stream; name="${name}"`,
          "Content-Disposition: attachment",
        ],
        body,
      );
    const { blocks, warnings } = await readHere(
      "a.eml",
      mixed(
        part(["Content-Type: text/plain"], "Van dos."),
        attached("datos.csv", "a,b\r\n1,2"),
        attached("malo.docx", "PK\u0003\u0004roto"),
      ),
    );
    expect(blocks).toContainEqual({ kind: "section", sort: "attachment", title: "datos.csv" });
    expect(blocks).toContainEqual({ kind: "table", header: ["a", "b"], rows: [["1", "2"]] });
    expect(warnings).toEqual([{ code: "attachment_left_out", detail: "document_corrupt" }]);
  });

  test("in mails are read to depth two, and deeper ones are named as missing", async () => {
    const nest = (depth: number): string =>
      depth === 0
        ? mail(["Content-Type: text/plain"], "Nivel 0.")
        : mail(
            [`Content-Type: multipart/mixed; boundary="b${depth}"`],
            `--b${depth}\r\nContent-Type: text/plain\r\n\r\nNivel ${depth}.\r\n--b${depth}\r\nContent-Type: message/rfc822\r\n\r\n${nest(depth - 1)}\r\n--b${depth}--\r\n`,
          );
    const { blocks, warnings } = await readHere("a.eml", nest(3));
    expect(textOf({ blocks }).match(/Nivel \d/g)).toEqual(["Nivel 3", "Nivel 2", "Nivel 1"]);
    expect(warnings).toEqual([{ code: "attachment_left_out", detail: "depth" }]);
  });

  test("of Outlook give text, else HTML, else RTF, and their attachments", async () => {
    const rtf = "{\\rtf1\\ansi{\\fonttbl{\\f0 Arial;}}A\\'f1o \\u8364?\\par fin{\\*\\htmltag x}}";
    const attachments = [{ name: "nota.txt", bytes: new TextEncoder().encode("adjunto") }];
    const texts = await Promise.all(
      [
        msgOf({ subject: "S", body: "texto", html: "<p>html</p>", attachments }),
        msgOf({ subject: "S", html: "<p>html</p>" }),
      ].map((bytes) => readHere("a.msg", bytes).then(textOf)),
    );
    expect(texts).toEqual(["S\ntexto\nnota.txt\nadjunto", "S\nhtml"]);
    const { blocks } = await readHere("a.msg", msgOf({ subject: "S", rtf }));
    expect(textOf({ blocks })).toBe("S\nAño €\nfin");
  });
});
