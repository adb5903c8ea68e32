import { strToU8, zipSync } from "fflate";

/** A file of the simulated product, made by code. */
export interface SampleFile {
  readonly name: string;
  readonly mime: string;
  make(): Promise<Uint8Array>;
}

const HANDBOOK = `# Manual de la plantilla

## Vacaciones

Cada persona tiene veintitrés días laborables de vacaciones al año. Se piden con dos semanas de antelación en el portal,
y hasta cinco días pasan al año siguiente.

## Bajas

Una baja por enfermedad se comunica a recursos humanos el primer día. El parte médico se envía antes de tres días.

## Teletrabajo

Se puede trabajar desde casa tres días por semana. La empresa paga la silla, la pantalla y la conexión.
`;

const EXPENSES = [
  ["Travel and expenses", "heading"],
  [
    "Hotels and trains are booked through the travel desk. Flights need the approval of the team lead.",
    "",
  ],
  ["Receipts", "heading"],
  [
    "Receipts are handed in within thirty days. Without a receipt at most twenty euros are refunded.",
    "",
  ],
  ["Company cards", "heading"],
  [
    "A lost card is reported to the bank and to finance at once; a new one takes five working days.",
    "",
  ],
] as const;

const CONTRACT = [
  [
    "Contrato de suministro",
    "",
    "Cláusula 1. El proveedor entrega los equipos en un plazo de cuarenta días.",
    "Cláusula 2. Por cada semana de retraso se descuenta el dos por ciento del precio.",
  ],
  [
    "Cláusula 3. La garantía cubre reparaciones durante treinta y seis meses.",
    "Cláusula 4. Cualquier litigio se resuelve en los juzgados de Sevilla.",
  ],
] as const;

export const SAMPLE_FILES: readonly SampleFile[] = [
  {
    name: "Manual de la plantilla.md",
    mime: "text/markdown",
    make: async () => strToU8(HANDBOOK),
  },
  {
    name: "Travel and expenses.docx",
    mime: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    make: async () => makeDocx(),
  },
  { name: "Contrato de suministro.pdf", mime: "application/pdf", make: makePdf },
];

async function makePdf(): Promise<Uint8Array> {
  const { PDFDocument, StandardFonts } = await import("pdf-lib");
  const pdf = await PDFDocument.create();
  const font = await pdf.embedFont(StandardFonts.Helvetica);
  for (const lines of CONTRACT) {
    const page = pdf.addPage([595, 842]);
    lines.forEach(
      (text, line) => void page.drawText(text, { x: 60, y: 760 - line * 24, size: 11, font }),
    );
  }
  return pdf.save();
}

const XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>';
const OFFICE = "application/vnd.openxmlformats-officedocument.wordprocessingml";
const PACKAGE = "http://schemas.openxmlformats.org/package/2006";
const RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
const WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main";

/** The least that Word opens. */
function makeDocx(): Uint8Array {
  const body = EXPENSES.map(([text, sort]) => {
    const style = sort === "" ? "" : '<w:pPr><w:pStyle w:val="Heading1"/></w:pPr>';
    return `<w:p>${style}<w:r><w:t>${text}</w:t></w:r></w:p>`;
  }).join("");
  const parts = {
    "[Content_Types].xml": `${XML}<Types xmlns="${PACKAGE}/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" ContentType="${OFFICE}.document.main+xml"/><Override PartName="/word/styles.xml" ContentType="${OFFICE}.styles+xml"/></Types>`,
    "_rels/.rels": `${XML}<Relationships xmlns="${PACKAGE}/relationships"><Relationship Id="rId1" Type="${RELATION}/officeDocument" Target="word/document.xml"/></Relationships>`,
    "word/_rels/document.xml.rels": `${XML}<Relationships xmlns="${PACKAGE}/relationships"><Relationship Id="rId1" Type="${RELATION}/styles" Target="styles.xml"/></Relationships>`,
    "word/styles.xml": `${XML}<w:styles xmlns:w="${WORD}"><w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style></w:styles>`,
    "word/document.xml": `${XML}<w:document xmlns:w="${WORD}"><w:body>${body}</w:body></w:document>`,
  };
  return zipSync(
    Object.fromEntries(Object.entries(parts).map(([name, text]) => [name, strToU8(text)])),
  );
}
