import { parseArgs } from "node:util";
import { startAzurite } from "./azurite.ts";
import { announceReady, endWithParent, failStart } from "./child-entry.ts";
import { lockFolder } from "./folder-lock.ts";

/** `--location DIR --blob-port N --queue-port N`. In a process of its own, because it is single-threaded. */
const { values } = parseArgs({
  options: {
    location: { type: "string" },
    "blob-port": { type: "string", default: "0" },
    "queue-port": { type: "string", default: "0" },
  },
});

let close = (): Promise<unknown> => Promise.resolve();
endWithParent(() => close());
try {
  const { location } = values;
  if (location !== undefined) await lockFolder(location, "azurite");
  const azurite = await startAzurite({
    ...(location === undefined ? {} : { location }),
    blobPort: Number(values["blob-port"]),
    queuePort: Number(values["queue-port"]),
  });
  close = azurite.close;
  announceReady(azurite.connectionString);
} catch (error) {
  failStart(error);
}
