import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { AppError, type ErrorDetails, permanent } from "../../kernel/errors.ts";
import { openOutput } from "./output.ts";
import { type Readers, readOne } from "./read-one.ts";
import { PART_CODE_UNITS_MAX, type ReadOrder } from "./read-order.ts";
import type { ReadMessage } from "./read-protocol.ts";
import { sealProcess } from "./seal-process.ts";

/**
 * The child's side: waits for one order, reads that document, answers, and is then killed by the parent. One process
 * serves one document, so nothing of it can reach the next.
 */
export function serveRead(readers: Readers): void {
  sealProcess();
  process.once("disconnect", () => process.exit(0));
  process.once("message", (order: ReadOrder) => {
    answer(order, readers).then(send, (error: unknown) => send(failureOf(error)));
  });
}

async function answer(order: ReadOrder, readers: Readers): Promise<ReadMessage> {
  const { limits, name } = order;
  const parts = openParts();
  const out = openOutput(limits, parts.line);
  const bytes = new Uint8Array(await readFile(order.path));
  const charset = /charset\s*=\s*"?([\w-]{1,40})/i.exec(order.declaredType ?? "")?.[1];
  const allowance = {
    inflatedBytes: limits.sheetInflatedBytesMax,
    attachments: limits.attachmentsMax,
  };
  const {
    type,
    pages,
    meta = {},
  } = await readOne(
    { bytes, name, declaredCharset: charset, limits, out, depth: 0, allowance, ocr: order.ocr },
    readers,
  );
  if (!out.hasText) throw permanent("document_no_text");
  parts.flush();
  const { warnings } = out;
  return {
    kind: "done",
    type,
    warnings: [...warnings],
    ...(pages === undefined ? {} : { pages }),
    meta,
    peakBytes: peakBytes(),
  };
}

/** Lines become messages of bounded size, wherever they break. */
function openParts(): { line: (line: string) => void; flush: () => void } {
  let waiting = "";
  const drainTo = (rest: number) => {
    let at = 0;
    for (; waiting.length - at > rest; at += PART_CODE_UNITS_MAX)
      send({ kind: "part", text: waiting.slice(at, at + PART_CODE_UNITS_MAX) });
    waiting = waiting.slice(at);
  };
  return {
    line: (line) => {
      waiting += `${line}\n`;
      if (waiting.length >= PART_CODE_UNITS_MAX) drainTo(PART_CODE_UNITS_MAX - 1);
    },
    flush: () => drainTo(0),
  };
}

function failureOf(error: unknown): ReadMessage {
  if (!(error instanceof AppError))
    return {
      kind: "failed",
      code: "unclassified",
      details: reasonOf(error),
      peakBytes: peakBytes(),
    };
  const { code, details } = error;
  return {
    kind: "failed",
    code,
    details: { ...plainDetails(details), ...reasonOf(error.cause) },
    peakBytes: peakBytes(),
  };
}

type PlainDetails = Record<string, string | number | boolean | null>;

const plainDetails = (details: ErrorDetails): PlainDetails =>
  Object.fromEntries(
    Object.entries(details).filter(
      (entry): entry is [string, string | number | boolean | null] =>
        entry[1] !== undefined && !Array.isArray(entry[1]),
    ),
  );

/** Name and code of what a library threw; its message may quote the document. */
function reasonOf(error: unknown): { cause?: string; causeCode?: string } {
  if (!(error instanceof Error)) return {};
  const code: unknown = "code" in error ? error.code : undefined;
  return {
    cause: error.name.slice(0, 100),
    ...(typeof code === "string" ? { causeCode: code.slice(0, 100) } : {}),
  };
}

const KIB = 1_024;

/** Not `resourceUsage().maxRSS` alone: on Linux that begins with the memory of the parent at the time of the fork. */
function peakBytes(): number {
  try {
    const status = readFileSync("/proc/self/status", "latin1");
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) * KIB;
  } catch {
    return process.resourceUsage().maxRSS * KIB;
  }
}

function send(message: ReadMessage): void {
  process.send?.(message);
}
