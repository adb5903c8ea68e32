import type { LogLevel } from "./core-types.ts";
import type { HostLog } from "./host-log.ts";

const CATEGORY = "Host.Function.Console";
/** A line that never ends is cut. */
const LINE_CHARACTERS_MAX = 100_000;

type Write = (text: string) => void;

/**
 * Takes what the app prints with `console` or to the standard streams into the log, as the host does with the output
 * of its worker. Returns the streams as they were.
 */
export function captureOutput(log: () => HostLog): {
  readonly stdout: Write;
  readonly stderr: Write;
} {
  const original = { stdout: rawWrite(process.stdout), stderr: rawWrite(process.stderr) };
  const emit = (line: string, level: LogLevel) => {
    if (line.trim() !== "") log()(level, line, { category: CATEGORY });
  };
  redirect(process.stdout, (line) => emit(line, "information"));
  redirect(process.stderr, (line) => emit(line, levelOf(line)));
  return original;
}

function rawWrite(stream: NodeJS.WriteStream): Write {
  const write = stream.write.bind(stream);
  stream.on("error", () => {}); // the reader is gone; stdin tells us so
  return (text) => void write(text);
}

/** The level is guessed from the words, as the host does for stderr. */
function levelOf(line: string): LogLevel {
  if (/warn/i.test(line)) return "warning";
  return /error|fail|severe/i.test(line) ? "error" : "information";
}

function redirect(stream: NodeJS.WriteStream, onLine: (line: string) => void): void {
  let rest = "";
  const take = (chunk: string | Uint8Array) => {
    const text = rest + (typeof chunk === "string" ? chunk : Buffer.from(chunk).toString("utf8"));
    const lines = text.split("\n");
    rest = (lines.pop() ?? "").slice(-LINE_CHARACTERS_MAX);
    lines.forEach(onLine);
  };
  const write = (chunk: string | Uint8Array, ...rest: unknown[]): boolean => {
    take(chunk);
    const callback = rest.at(-1);
    if (typeof callback === "function") queueMicrotask(() => callback());
    return true;
  };
  stream.write = write as typeof stream.write;
}
