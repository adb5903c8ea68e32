import { zipOf } from "./zips.ts";

const XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>';
const W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main";
const S = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
const P = "http://schemas.openxmlformats.org/presentationml/2006/main";
const A = "http://schemas.openxmlformats.org/drawingml/2006/main";
const R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
const PACKAGE = "http://schemas.openxmlformats.org/package/2006";
const OFFICE = "application/vnd.openxmlformats-officedocument";

export const escapeXml = (text: string): string =>
  text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

const types = (overrides: Readonly<Record<string, string>>): string =>
  `${XML}<Types xmlns="${PACKAGE}/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>${Object.entries(
    overrides,
  )
    .map(([part, type]) => `<Override PartName="/${part}" ContentType="${OFFICE}.${type}+xml"/>`)
    .join("")}</Types>`;

export const relations = (targets: readonly { type: string; target: string }[]): string =>
  `${XML}<Relationships xmlns="${PACKAGE}/relationships">${targets
    .map(
      ({ type, target }, at) =>
        `<Relationship Id="rId${at + 1}" Type="${R}/${type}" Target="${target}"/>`,
    )
    .join("")}</Relationships>`;

/** A paragraph of Word, with a style when it is given. */
export const wordParagraph = (text: string, style?: string): string =>
  `<w:p>${style === undefined ? "" : `<w:pPr><w:pStyle w:val="${style}"/></w:pPr>`}<w:r><w:t xml:space="preserve">${escapeXml(text)}</w:t></w:r></w:p>`;

export const wordTable = (rows: readonly (readonly string[])[]): string =>
  `<w:tbl>${rows
    .map(
      (row) => `<w:tr>${row.map((cell) => `<w:tc>${wordParagraph(cell)}</w:tc>`).join("")}</w:tr>`,
    )
    .join("")}</w:tbl>`;

export interface WordStyle {
  readonly id: string;
  readonly name: string;
  readonly basedOn?: string;
  readonly outlineLevel?: number;
}

const wordStyle = ({ id, name, basedOn, outlineLevel }: WordStyle): string =>
  `<w:style w:type="paragraph" w:styleId="${id}"><w:name w:val="${name}"/>${
    basedOn === undefined ? "" : `<w:basedOn w:val="${basedOn}"/>`
  }${outlineLevel === undefined ? "" : `<w:pPr><w:outlineLvl w:val="${outlineLevel}"/></w:pPr>`}</w:style>`;

export const docxParts = (body: string, styles: readonly WordStyle[] = []) => ({
  "[Content_Types].xml": types({
    "word/document.xml": "wordprocessingml.document.main",
    "word/styles.xml": "wordprocessingml.styles",
  }),
  "_rels/.rels": relations([{ type: "officeDocument", target: "word/document.xml" }]),
  "word/_rels/document.xml.rels": relations([{ type: "styles", target: "styles.xml" }]),
  "word/document.xml": `${XML}<w:document xmlns:w="${W}"><w:body>${body}</w:body></w:document>`,
  "word/styles.xml": `${XML}<w:styles xmlns:w="${W}">${styles.map(wordStyle).join("")}</w:styles>`,
});

export const docxOf = (body: string, styles: readonly WordStyle[] = []): Uint8Array =>
  zipOf(docxParts(body, styles));

export interface XlsxSheet {
  readonly name: string;
  /** The content of `sheetData`. */
  readonly rows: string;
  readonly isHidden?: boolean;
}

export interface XlsxOptions {
  /** The content of `sst`. */
  readonly strings?: string;
  readonly doctype?: string;
  /** Format codes; the style n + 1 is the nth of them, style 0 is plain. */
  readonly formats?: readonly string[];
  readonly is1904?: boolean;
}

export function xlsxOf(sheets: readonly XlsxSheet[], options: XlsxOptions = {}): Uint8Array {
  const { strings = "", doctype = "", formats = [], is1904 = false } = options;
  const parts: Record<string, string> = {
    "[Content_Types].xml": types({
      "xl/workbook.xml": "spreadsheetml.sheet.main",
      "xl/sharedStrings.xml": "spreadsheetml.sharedStrings",
      "xl/styles.xml": "spreadsheetml.styles",
      ...Object.fromEntries(
        sheets.map((_, at) => [`xl/worksheets/sheet${at + 1}.xml`, "spreadsheetml.worksheet"]),
      ),
    }),
    "_rels/.rels": relations([{ type: "officeDocument", target: "xl/workbook.xml" }]),
    "xl/_rels/workbook.xml.rels": relations([
      ...sheets.map((_, at) => ({ type: "worksheet", target: `worksheets/sheet${at + 1}.xml` })),
      { type: "sharedStrings", target: "sharedStrings.xml" },
      { type: "styles", target: "styles.xml" },
    ]),
    "xl/workbook.xml": `${XML}<workbook xmlns="${S}" xmlns:r="${R}"><workbookPr date1904="${is1904 ? 1 : 0}"/><sheets>${sheets
      .map(
        ({ name, isHidden }, at) =>
          `<sheet name="${escapeXml(name)}" sheetId="${at + 1}"${isHidden === true ? ' state="hidden"' : ""} r:id="rId${at + 1}"/>`,
      )
      .join("")}</sheets></workbook>`,
  };
  sheets.forEach(({ rows }, at) => {
    parts[`xl/worksheets/sheet${at + 1}.xml`] =
      `${XML}<worksheet xmlns="${S}"><sheetData>${rows}</sheetData></worksheet>`;
  });
  parts["xl/sharedStrings.xml"] = `${XML}${doctype}<sst xmlns="${S}">${strings}</sst>`;
  parts["xl/styles.xml"] = xlsxStyles(formats);
  return zipOf(parts);
}

const xlsxStyles = (formats: readonly string[]): string =>
  `${XML}<styleSheet xmlns="${S}"><numFmts>${formats
    .map((code, at) => `<numFmt numFmtId="${200 + at}" formatCode="${escapeXml(code)}"/>`)
    .join(
      "",
    )}</numFmts><fonts count="1"><font/></fonts><fills count="1"><fill/></fills><borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs><xf numFmtId="0"/>${formats
    .map((_, at) => `<xf numFmtId="${200 + at}"/>`)
    .join("")}</cellXfs></styleSheet>`;

/** Rows of texts in the cells themselves. */
export const inlineRows = (rows: readonly (readonly string[])[]): string =>
  rows
    .map(
      (row, at) =>
        `<row r="${at + 1}">${row.map((cell) => `<c t="inlineStr"><is><t>${escapeXml(cell)}</t></is></c>`).join("")}</row>`,
    )
    .join("");

export function pptxOf(
  slides: readonly { title: string; body: string; notes?: string }[],
): Uint8Array {
  const parts: Record<string, string> = {
    "[Content_Types].xml": types({
      "ppt/presentation.xml": "presentationml.presentation.main",
      ...Object.fromEntries(
        slides.flatMap(({ notes }, at) => [
          [`ppt/slides/slide${at + 1}.xml`, "presentationml.slide"],
          ...(notes === undefined
            ? []
            : [[`ppt/notesSlides/notesSlide${at + 1}.xml`, "presentationml.notesSlide"]]),
        ]),
      ),
    }),
    "_rels/.rels": relations([{ type: "officeDocument", target: "ppt/presentation.xml" }]),
    "ppt/_rels/presentation.xml.rels": relations(
      slides.map((_, at) => ({ type: "slide", target: `slides/slide${at + 1}.xml` })),
    ),
    "ppt/presentation.xml": `${XML}<p:presentation xmlns:p="${P}" xmlns:r="${R}"><p:sldIdLst>${slides
      .map((_, at) => `<p:sldId id="${256 + at}" r:id="rId${at + 1}"/>`)
      .join("")}</p:sldIdLst></p:presentation>`,
  };
  slides.forEach(({ title, body, notes }, at) => {
    const shapes = shape("title", title) + shape("body", body);
    parts[`ppt/slides/slide${at + 1}.xml`] =
      `${XML}<p:sld xmlns:p="${P}" xmlns:a="${A}"><p:cSld><p:spTree>${shapes}</p:spTree></p:cSld></p:sld>`;
    if (notes === undefined) return;
    parts[`ppt/slides/_rels/slide${at + 1}.xml.rels`] = relations([
      { type: "notesSlide", target: `../notesSlides/notesSlide${at + 1}.xml` },
    ]);
    parts[`ppt/notesSlides/notesSlide${at + 1}.xml`] =
      `${XML}<p:notes xmlns:p="${P}" xmlns:a="${A}"><p:cSld><p:spTree>${shape("body", notes)}</p:spTree></p:cSld></p:notes>`;
  });
  return zipOf(parts);
}

const shape = (type: string, text: string): string =>
  `<p:sp><p:nvSpPr><p:cNvPr id="2" name="${type}"/><p:cNvSpPr/><p:nvPr><p:ph type="${type}"/></p:nvPr></p:nvSpPr><p:spPr/><p:txBody><a:bodyPr/><a:p><a:r><a:t>${escapeXml(text)}</a:t></a:r></a:p></p:txBody></p:sp>`;

const ODF = "urn:oasis:names:tc:opendocument:xmlns";

/** `body` is the content of `office:text`. */
export const odtOf = (body: string): Uint8Array =>
  zipOf({
    mimetype: "application/vnd.oasis.opendocument.text",
    "META-INF/manifest.xml": `${XML}<manifest:manifest xmlns:manifest="${ODF}:manifest:1.0"><manifest:file-entry manifest:full-path="/" manifest:media-type="application/vnd.oasis.opendocument.text"/></manifest:manifest>`,
    "content.xml": `${XML}<office:document-content xmlns:office="${ODF}:office:1.0" xmlns:text="${ODF}:text:1.0" xmlns:table="${ODF}:table:1.0"><office:body><office:text>${body}</office:text></office:body></office:document-content>`,
  });
