import { StartError } from "./start-error.ts";

/** Less than the parent waits before it insists. */
const CLOSE_WITHIN_MS = 4_000;

/** `close` runs when the parent is gone or asks for the end, then the process ends. */
export function endWithParent(close: () => Promise<unknown> = () => Promise.resolve()): void {
  const end = (): void => {
    setTimeout(() => process.exit(1), CLOSE_WITHIN_MS).unref();
    close().then(
      () => process.exit(0),
      () => process.exit(1),
    );
  };
  process.once("SIGTERM", end);
  if (process.stdin.isTTY) return; // started by hand
  process.stdin.once("end", end);
  process.stdin.once("error", end);
  process.stdin.resume();
}

/** Tells the parent that we are ready, and where. */
export function announceReady(value: string): void {
  process.stdout.write(`READY ${value}\n`);
}

/** A start that fails says why in one line. */
export function failStart(error: unknown): never {
  console.error(error instanceof StartError ? error.message : error);
  process.exit(1);
}
