import type { Logger } from "../kernel/run.ts";
import { createLogger } from "./logger.ts";

/** For the few lines before the first invocation; the host takes the worker's output into its own log. */
export const startLogger = (): Logger =>
  createLogger((level, line) => {
    const stream = level === "info" ? process.stdout : process.stderr;
    stream.write(`${line}\n`);
  });
