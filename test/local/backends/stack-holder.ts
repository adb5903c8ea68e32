import { startBackends } from "../../../local/backends/stack.ts";

// `node stack-holder.ts DIR pglite|postgres`: holds a whole stack until it is killed. It stops nothing itself.
const [, , dir = "", database] = process.argv;
await startBackends({
  dir,
  database: database === "postgres" ? "postgres" : "pglite",
  queues: ["some-queue"],
  log: () => {},
});
process.stdout.write("HOLDING\n");
setInterval(() => {}, 60_000);
