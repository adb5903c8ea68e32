import { type ParseArgsConfig, parseArgs } from "node:util";
import { onAbandoned } from "./ancestors.ts";
import { StartError } from "./backends/start-error.ts";

type Options = NonNullable<ParseArgsConfig["options"]>;
type Values<O extends Options> = ReturnType<typeof parseArgs<{ options: O }>>["values"];

export interface Command<O extends Options> {
  /** Printed by `--help`. */
  readonly help: string;
  readonly options: O;
  /** `stop` aborts at Ctrl+C; the promise then resolves when nothing is left running. */
  run(values: Values<O>, stop: AbortSignal): Promise<void>;
}

const USAGE_ERROR = 2;
/** What a shell reports for a program that Ctrl+C ended. */
const INTERRUPTED = 130;

/** The frame of every command: `--help`, errors a person can act on, and Ctrl+C once (in order) or twice (at once). */
export async function runCommand<O extends Options>(command: Command<O>): Promise<void> {
  const values = parseValues(command);
  if (values === "help") {
    console.log(command.help.trim());
    return;
  }
  const stop = stopSignal();
  try {
    await command.run(values, stop);
    process.exit(0);
  } catch (error) {
    if (stop.aborted && error === stop.reason) process.exit(0);
    console.error(error instanceof StartError ? `\n${error.message}` : error);
    process.exit(1);
  }
}

function parseValues<O extends Options>(command: Command<O>): Values<O> | "help" {
  try {
    const help = { help: { type: "boolean", short: "h" } } as const;
    const { values } = parseArgs({ options: { ...command.options, ...help }, strict: true });
    return (values as { help?: boolean }).help === true ? "help" : (values as Values<O>);
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n`);
    console.error(command.help.trim());
    process.exit(USAGE_ERROR);
  }
}

function stopSignal(): AbortSignal {
  const controller = new AbortController();
  const stop = (): void => {
    if (controller.signal.aborted) process.exit(INTERRUPTED);
    controller.abort(new Error("stopped"));
  };
  onAbandoned(stop);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);
  return controller.signal;
}

/** Reads the value of a port option. */
export function parsePort(text: string | undefined, flag: string): number | undefined {
  if (text === undefined) return undefined;
  const port = Number(text);
  if (/^\d+$/.test(text) && port >= 1 && port <= 65_535) return port;
  throw new StartError(`${flag} must be a port between 1 and 65535; it is "${text}".`);
}

/** Reads the value of an option that is one of a few words. */
export function parseChoice<T extends string>(
  text: string,
  choices: readonly T[],
  flag: string,
): T {
  const choice = choices.find((known) => known === text);
  if (choice !== undefined) return choice;
  throw new StartError(`${flag} must be one of ${choices.join(", ")}; it is "${text}".`);
}

/** Resolves when the person wants to stop. */
export const stopped = (stop: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (stop.aborted) resolve();
    stop.addEventListener("abort", () => resolve(), { once: true });
  });
