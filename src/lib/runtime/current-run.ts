import { AsyncLocalStorage } from "node:async_hooks";
import type { LogFields, Logger, Run } from "../kernel/run.ts";
import { startLogger } from "./start-logger.ts";

const current = new AsyncLocalStorage<Run>();

/** Everything that `work` awaits logs as this run. */
export const withinRun = <T>(run: Run, work: () => Promise<T>): Promise<T> =>
  current.run(run, work);

const logger = (): Logger => current.getStore()?.log ?? startLogger();

/**
 * The logger of the invocation that is under way, for services that are built once and have lines of their own; outside
 * of an invocation that of the process.
 */
export const invocationLogger: Logger = {
  info: (event: string, fields?: LogFields) => logger().info(event, fields),
  warn: (event: string, fields?: LogFields) => logger().warn(event, fields),
  error: (event: string, fields?: LogFields) => logger().error(event, fields),
};
