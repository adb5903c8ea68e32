import type { OcrOptions, ReadLimits } from "./document-text.ts";

/** Code units of one `part`; with JSON around it, even if each one is escaped, a message stays below 1 MB. */
export const PART_CODE_UNITS_MAX = 150_000;

/** Parent to child, once. */
export interface ReadOrder {
  readonly path: string;
  readonly name: string;
  readonly declaredType?: string | undefined;
  readonly limits: ReadLimits;
  readonly ocr?: OcrOptions | undefined;
}
