import { pathToFileURL } from "node:url";
import { installCoreModule } from "../../local/functions-host/core-module.ts";

/**
 * Loads the entry that is named as argument through the real library, and prints what it registered, and what it threw.
 * Ends by itself: an entry that opens a connection keeps this process alive, and its test fails.
 */
const core = installCoreModule(() => {});
const [, , entry = ""] = process.argv;
const thrown = await import(pathToFileURL(entry).href).then(
  () => undefined,
  (error: unknown) => error,
);
const functions = core.registrations().map(({ metadata }) => metadata);
const error = thrown === undefined ? undefined : String(thrown);
process.send?.({ functions, error });
process.disconnect?.();
