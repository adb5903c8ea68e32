import { z } from "zod";
import { ERROR_CODES, type ErrorCode } from "../../kernel/error-codes.ts";
import type { DocumentType } from "./document-text.ts";
import { PART_CODE_UNITS_MAX } from "./read-order.ts";

/*
 * What parent and child say to each other. The child may be taken over by what it reads, so the parent believes
 * nothing: every message is parsed, and what comes out is counted.
 */

const Title = z.string().max(500);
const Page = z.int().min(1).exactOptional();
const Cells = z.array(z.string());

const BlockSchema = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("heading"),
    level: z.literal([1, 2, 3, 4, 5, 6]),
    text: z.string(),
    page: Page,
  }),
  z.object({ kind: z.literal("paragraph"), text: z.string(), page: Page }),
  z.object({
    kind: z.literal("table"),
    header: Cells.exactOptional(),
    rows: z.array(Cells),
    page: Page,
  }),
  z.object({
    kind: z.literal("section"),
    sort: z.enum(["sheet", "slide", "attachment"]),
    title: Title,
    isHidden: z.boolean().exactOptional(),
    page: Page,
  }),
]);

/** One line of the stream that the parts make up; `rows` belong to the table that came last. */
export const LineSchema = z.union([
  z.object({ block: BlockSchema }),
  z.object({ rows: z.array(Cells) }),
]);

const WarningSchema = z.object({
  code: z.string().regex(/^[a-z0-9_]{1,60}$/),
  detail: z.string().max(200).exactOptional(),
  page: Page,
});

const TYPES = [
  "pdf",
  "docx",
  "pptx",
  "xlsx",
  "odt",
  "html",
  "markdown",
  "text",
  "csv",
  "eml",
  "msg",
] as const satisfies readonly DocumentType[];

const isCode = (code: string): code is ErrorCode => Object.hasOwn(ERROR_CODES, code);

/** Child to parent: any number of parts, then one `done` or `failed`. */
export const MessageSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("part"), text: z.string().max(PART_CODE_UNITS_MAX) }),
  z.object({
    kind: z.literal("done"),
    type: z.enum(TYPES),
    warnings: z.array(WarningSchema).max(1_000),
    pages: z.int().min(0).exactOptional(),
    meta: z.object({ title: Title.exactOptional(), charset: z.string().max(40).exactOptional() }),
    peakBytes: z.number().min(0),
  }),
  z.object({
    kind: z.literal("failed"),
    code: z.string().refine(isCode),
    details: z.record(
      z.string(),
      z.union([z.string().max(200), z.number(), z.boolean(), z.null()]),
    ),
    peakBytes: z.number().min(0),
  }),
]);

export type ReadMessage = z.infer<typeof MessageSchema>;
export type DoneMessage = Extract<ReadMessage, { kind: "done" }>;
export type FailedMessage = Extract<ReadMessage, { kind: "failed" }>;
