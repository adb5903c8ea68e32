import { fileURLToPath } from "node:url";
import { parseChoice, parsePort, runCommand } from "./command.ts";
import { runLocal } from "./run-local.ts";

await runCommand({
  help: `
npm start -- [options]

Runs worker-service on this machine: Functions host, database, Redis, storage and sample work, without a cloud account.

  --port N          of the Functions host; default 7071, or a free one when that is taken
  --empty           no sample work
  --reset           delete what earlier starts left in .local/ first
  --database KIND   pglite (default, has pgvector) or postgres
  --dir DIR         where the data is kept; default .local
  --verbose         every line of the Functions host
`,
  options: {
    port: { type: "string" },
    empty: { type: "boolean", default: false },
    reset: { type: "boolean", default: false },
    database: { type: "string", default: "pglite" },
    verbose: { type: "boolean", default: false },
    dir: { type: "string", default: fileURLToPath(new URL("../.local", import.meta.url)) },
  },
  run: ({ port, empty, reset, database, verbose, dir }, stop) =>
    runLocal(
      {
        port: parsePort(port, "--port"),
        database: parseChoice(database, ["pglite", "postgres"], "--database"),
        dir,
        verbose,
        reset,
        sample: !empty,
        watch: false,
      },
      stop,
    ),
});
