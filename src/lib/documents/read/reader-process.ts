import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ERROR_CODES } from "../../kernel/error-codes.ts";
import { AppError, invariant, transient } from "../../kernel/errors.ts";
import { every } from "../../kernel/every.ts";
import { collectBlocks } from "./collect-blocks.ts";
import type { DocumentText, ReadLimits } from "./document-text.ts";
import type { ReadOrder } from "./read-order.ts";
import {
  type DoneMessage,
  type FailedMessage,
  MessageSchema,
  type ReadMessage,
} from "./read-protocol.ts";

export interface ReaderProcess {
  /** Once. Never ends by itself when the child does not: the caller has the deadline. */
  read(order: ReadOrder): Promise<DocumentText>;
  /** Resolves when the process is gone. */
  kill(): Promise<void>;
}

const POLL_MS = 50;
const MIB = 2 ** 20;
/** Of the young generation: half of what V8 would take, for a twentieth less of memory and no measurable time. */
const SEMI_SPACE_MIB = 8;

/** Beside the bundle or beside this file; the build makes it an entry of its own. */
export function readerEntry(): string {
  const candidates = ["./document-reader.ts", "./document-reader.js", "../document-reader.js"];
  const found = candidates
    .map((candidate) => fileURLToPath(new URL(candidate, import.meta.url)))
    .find((path) => existsSync(path));
  invariant(found !== undefined, "the entry of the reading process is deployed");
  return found;
}

/**
 * Without environment, so without secrets; without the right to write files or start processes; with a bounded heap.
 * A worker thread would be no boundary: over its heap limit it can end the whole host.
 */
export function startReader(entry: string, limits: ReadLimits): ReaderProcess {
  const startedAt = performance.now();
  const child = fork(entry, [], {
    env: {},
    execArgv: [
      `--max-old-space-size=${Math.round(limits.heapBytesMax / MIB)}`,
      `--max-semi-space-size=${SEMI_SPACE_MIB}`,
      "--permission",
      "--allow-fs-read=*",
      "--allow-worker",
      "--disable-warning=ExperimentalWarning",
    ],
    serialization: "json",
    stdio: ["ignore", "ignore", "ignore", "ipc"],
  });
  const memory = watchMemory(child, limits.residentBytesMax);
  return {
    read: (order) => {
      const durationMs = () => Math.round(performance.now() - startedAt);
      return listen(child, order, limits).then(
        ({ blocks, characters, done }) => ({
          type: done.type,
          blocks,
          warnings: done.warnings,
          ...(done.pages === undefined ? {} : { pages: done.pages }),
          characters,
          meta: done.meta,
          cost: {
            durationMs: durationMs(),
            peakBytes: Math.max(memory.peakBytes(), done.peakBytes),
          },
        }),
        (error: unknown) => {
          throw memory.exceeded() ?? error;
        },
      );
    },
    kill: async () => {
      memory.stop();
      await kill(child);
    },
  };
}

interface Answer extends Pick<DocumentText, "blocks" | "characters"> {
  readonly done: DoneMessage;
}

function listen(child: ChildProcess, order: ReadOrder, limits: ReadLimits): Promise<Answer> {
  const collected = collectBlocks(limits);
  return new Promise((resolve, reject) => {
    const take = (message: ReadMessage) => {
      if (message.kind === "part") collected.add(message.text);
      else if (message.kind === "failed") reject(errorOf(message));
      else resolve({ ...collected.finish(), done: message });
    };
    child.on("message", (raw: unknown) => {
      try {
        take(MessageSchema.parse(raw));
      } catch (error) {
        reject(endedWithout({ reason: "protocol" }, error));
      }
    });
    child.once("error", (error) => reject(endedWithout({ reason: "start" }, error)));
    child.once("exit", (exitCode, signal) =>
      reject(endedWithout({ reason: "exit", exitCode, signal })),
    );
    child.send(order, (error) => {
      if (error !== null) reject(endedWithout({ reason: "start" }, error));
    });
  });
}

const endedWithout = (
  details: { reason: string; exitCode?: number | null; signal?: string | null },
  cause?: unknown,
): AppError => transient("document_resource_limit", details, cause);

/** The child names a code; what the code means is not for it to say. */
function errorOf({ code, details }: FailedMessage): Error {
  if (!code.startsWith("document_"))
    return new Error(`the reading process failed: ${JSON.stringify(details)}`);
  return new AppError(ERROR_CODES[code].kind, code, { details });
}

interface MemoryWatch {
  peakBytes(): number;
  /** The error, when the process was killed for its memory. */
  exceeded(): AppError | undefined;
  stop(): void;
}

/** Buffers are outside of the heap that V8 bounds, hence the resident memory. Where `/proc` is missing only the heap is bounded. */
function watchMemory(child: ChildProcess, maxBytes: number): MemoryWatch {
  let peak = 0;
  let isOver = false;
  const stop = every(POLL_MS, () => {
    peak = Math.max(peak, peakOf(child.pid));
    if (peak <= maxBytes || isOver) return;
    isOver = true;
    child.kill("SIGKILL");
  });
  return {
    peakBytes: () => peak,
    exceeded: () =>
      isOver
        ? transient("document_resource_limit", { reason: "memory", max: maxBytes })
        : undefined,
    stop,
  };
}

/** The high-water mark of the kernel, so that nothing is missed between two looks. */
function peakOf(pid: number | undefined): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "latin1");
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1_024;
  } catch {
    return 0; // not Linux, or gone
  }
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const gone = once(child, "exit");
  child.kill("SIGKILL");
  await gone;
}
