import { fileURLToPath } from "node:url";
import { parseChoice, parsePort, runCommand } from "./command.ts";
import { runLocal } from "./run-local.ts";

await runCommand({
  help: `
npm run dev -- [options]

Like npm start, and starts the worker again when a file under src/ changes; the backends go on.

  --port N          of the Functions host; default 7071, or a free one when that is taken
  --sample          let a simulated product record usage when there is none yet
  --reset           delete what earlier starts left in .local/ first
  --database KIND   pglite (default, has pgvector) or postgres
  --dir DIR         where the data is kept; default .local
  --verbose         every line of the Functions host
`,
  options: {
    port: { type: "string" },
    sample: { type: "boolean", default: false },
    reset: { type: "boolean", default: false },
    database: { type: "string", default: "pglite" },
    verbose: { type: "boolean", default: false },
    dir: { type: "string", default: fileURLToPath(new URL("../.local", import.meta.url)) },
  },
  run: ({ port, sample, reset, database, verbose, dir }, stop) =>
    runLocal(
      {
        port: parsePort(port, "--port"),
        database: parseChoice(database, ["pglite", "postgres"], "--database"),
        dir,
        verbose,
        reset,
        sample,
        watch: true,
      },
      stop,
    ),
});
