import type { Readers } from "./read-one.ts";

export const READERS: Readers = {
  pdf: async () => (await import("./read-pdf.ts")).readPdf,
  docx: async () => (await import("./read-office.ts")).readWord,
  pptx: async () => (await import("./read-office.ts")).readSlides,
  odt: async () => (await import("./read-office.ts")).readOpenText,
  xlsx: async () => (await import("./read-xlsx.ts")).readXlsx,
  html: async () => (await import("./read-html.ts")).readHtml,
  markdown: async () => (await import("./read-markdown.ts")).readMarkdown,
  text: async () => (await import("./read-plain.ts")).readPlain,
  csv: async () => (await import("./read-csv.ts")).readCsv,
  eml: async () => (await import("./read-eml.ts")).readEml,
  msg: async () => (await import("./read-msg.ts")).readMsg,
};
