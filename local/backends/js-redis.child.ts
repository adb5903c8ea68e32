import { parseArgs } from "node:util";
import { createRedisMock } from "js-redis-server";
import { announceReady, endWithParent, failStart } from "./child-entry.ts";

/** `--port N`. In a process of its own: it is slow enough to hold up whoever shares its event loop. */
const { values } = parseArgs({ options: { port: { type: "string", default: "0" } } });

endWithParent();
try {
  const server = await createRedisMock({ port: Number(values.port) });
  announceReady(String(server.port));
} catch (error) {
  failStart(error);
}
