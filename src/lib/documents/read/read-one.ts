import { AppError, permanent, transient } from "../../kernel/errors.ts";
import type { DocumentType } from "./document-text.ts";
import type { Reader, ReadFacts, ReadTask } from "./reader.ts";
import { sniffType } from "./sniff.ts";

/** The parsers are large, so that each is loaded only for its own format. */
export type Readers = Readonly<Record<DocumentType, () => Promise<Reader>>>;

export interface ReadOne extends ReadFacts {
  readonly type: DocumentType;
}

/** Finds out what the bytes are and reads them, into the output of the task. Used for attachments too. */
export async function readOne(task: ReadTask, readers: Readers): Promise<ReadOne> {
  const type = await sniffType(task);
  const reader = await readers[type]();
  try {
    return { type, ...(await reader(task)) };
  } catch (error) {
    throw classifyParserError(error);
  }
}

/** V8 says so when the stack or an allocation is at its end; the document asked for it. */
const EXHAUSTED =
  /call stack|allocation failed|invalid (?:string|array|typed array) length|string longer/i;

/** Parsers are deterministic: what they throw and no reader knows, the next attempt would throw again. */
function classifyParserError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  const { name, message } = error instanceof Error ? error : new Error("thrown value");
  if (name === "RangeError" && EXHAUSTED.test(message))
    return transient("document_resource_limit", { reason: "exhausted" }, error);
  return permanent("document_corrupt", { reason: name.slice(0, 100) }, error);
}
