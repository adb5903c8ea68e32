import { deflateSync } from "node:zlib";
import { PDFDocument, type PDFFont, StandardFonts } from "pdf-lib";

export interface PdfText {
  readonly text: string;
  readonly x?: number;
  readonly y: number;
  readonly size?: number;
}

/** Each page a list of texts at their places, from the bottom left, in points. */
export async function pdfOf(pages: readonly (readonly PdfText[])[]): Promise<Uint8Array> {
  const pdf = await PDFDocument.create();
  const font = await pdf.embedFont(StandardFonts.Helvetica);
  for (const texts of pages) addPage(pdf, font, texts);
  return pdf.save();
}

function addPage(pdf: PDFDocument, font: PDFFont, texts: readonly PdfText[]): void {
  const page = pdf.addPage([595, 842]);
  for (const { text, x = 60, y, size = 11 } of texts) page.drawText(text, { x, y, size, font });
}

const LINE_HEIGHT = 14;
const TOP = 780;

/** One line below the other. */
export const linesAt = (lines: readonly string[], size = 11): PdfText[] =>
  lines.map((text, at) => ({ text, y: TOP - at * LINE_HEIGHT, size }));

/** A file of objects without cross references; readers find them by themselves. */
export const rawPdf = (objects: readonly string[], trailer: string): Uint8Array =>
  new TextEncoder().encode(
    `%PDF-1.4\n${objects.map((object, at) => `${at + 1} 0 obj\n${object}\nendobj\n`).join("")}trailer\n${trailer}\n%%EOF\n`,
  );

const stream = (content: string): string =>
  `<< /Length ${content.length} >>\nstream\n${content}\nendstream`;

const pageObject = (content: number): string =>
  `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents ${content} 0 R /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>`;

/** One page per content stream. */
export const pdfOfStreams = (contents: readonly string[], trailer = ""): Uint8Array =>
  rawPdf(
    [
      "<< /Type /Catalog /Pages 2 0 R >>",
      `<< /Type /Pages /Count ${contents.length} /Kids [${contents.map((_, at) => `${3 + at * 2} 0 R`).join(" ")}] >>`,
      ...contents.flatMap((content, at) => [pageObject(4 + at * 2), stream(content)]),
    ],
    `<< /Root 1 0 R ${trailer} >>`,
  );

export const showText = (text: string): string => `BT /F1 12 Tf 60 700 Td (${text}) Tj ET`;

/** Needs a password: what is in O and U belongs to none. */
export const encryptedPdf = (): Uint8Array =>
  pdfOfStreams(
    [showText("Secreto")],
    `/ID [<00112233445566778899aabbccddeeff> <00112233445566778899aabbccddeeff>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -44 /O <${"41".repeat(32)}> /U <${"42".repeat(32)}> >>`,
  );

/** A page that is one grey picture, as a scanner makes it; a byte per pixel. */
export function scannedPdf(width: number, height: number, grey: Uint8Array): Uint8Array {
  const packed = Buffer.from(deflateSync(grey));
  const head = rawPdf(
    [
      "<< /Type /Catalog /Pages 2 0 R >>",
      "<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
      "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /XObject << /I 5 0 R >> >> >>",
      stream("595 0 0 842 0 0 cm /I Do"),
      `<< /Type /XObject /Subtype /Image /Width ${width} /Height ${height} /ColorSpace /DeviceGray /BitsPerComponent 8 /Filter /FlateDecode /Length ${packed.length} >>\nstream\nPIXELS\nendstream`,
    ],
    "<< /Root 1 0 R >>",
  );
  const at = Buffer.from(head).indexOf("PIXELS");
  return Buffer.concat([head.subarray(0, at), packed, head.subarray(at + "PIXELS".length)]);
}
