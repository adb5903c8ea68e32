import { fileURLToPath } from "node:url";
import { STORAGE_QUEUES } from "../src/queues.ts";
import { preferPort, refuseTakenPort } from "./backends/ports.ts";
import { type BackendPorts, startBackends } from "./backends/stack.ts";
import { StartError } from "./backends/start-error.ts";
import { parseChoice, parsePort, runCommand, stopped } from "./command.ts";

const DATA_DIR = fileURLToPath(new URL("../.local", import.meta.url));

/** Well-known ports, so that the settings stay the same from one start to the next. */
const DEFAULT_PORTS = {
  supabase: { port: 54_321, what: "the Supabase API" },
  postgres: { port: 54_322, what: "Postgres" },
  redis: { port: 6_380, what: "Redis" },
  upstash: { port: 8_079, what: "the Upstash REST bridge" },
  blob: { port: 10_000, what: "the blob storage" },
  queue: { port: 10_001, what: "the queue storage" },
} as const satisfies Record<keyof BackendPorts, { port: number; what: string }>;

type PortName = keyof typeof DEFAULT_PORTS;
const PORT_NAMES = Object.keys(DEFAULT_PORTS) as PortName[];

await runCommand({
  help: `
npm run backends -- [options]

Starts only the embedded backends and prints the settings that reach them, one NAME=value per line, for \`func start\`
or for another process. Everything else goes to stderr. Data is kept in .local/, as with \`npm start\`. Ctrl+C stops it.

  --json                one JSON object instead of lines
  --database KIND       pglite (default, has pgvector) or postgres
  --dir DIR             where the data is kept; default .local
${PORT_NAMES.map((name) => `  --${`${name}-port N`.padEnd(20)}default ${DEFAULT_PORTS[name].port}, or a free one when that is taken`).join("\n")}
`,
  options: {
    json: { type: "boolean", default: false },
    database: { type: "string", default: "pglite" },
    dir: { type: "string", default: DATA_DIR },
    "supabase-port": { type: "string" },
    "postgres-port": { type: "string" },
    "redis-port": { type: "string" },
    "upstash-port": { type: "string" },
    "blob-port": { type: "string" },
    "queue-port": { type: "string" },
  },
  run: async (values, stop) => {
    const log = (line: string): void => console.error(line);
    const backends = await startBackends({
      dir: values.dir,
      database: parseChoice(values.database, ["pglite", "postgres"], "--database"),
      ports: await choosePorts((name) => values[`${name}-port`], log),
      queues: STORAGE_QUEUES,
      log,
      abort: stop,
    });
    log(`Redis itself, for tools: ${backends.redisUrl}`);
    const { settings } = backends;
    const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
    console.log(values.json ? JSON.stringify(settings) : lines.join("\n"));
    const failed = await Promise.race([stopped(stop), backends.failed]);
    await backends.stop();
    if (failed !== undefined) throw new StartError(failed);
  },
});

async function choosePorts(
  given: (name: PortName) => string | undefined,
  log: (line: string) => void,
): Promise<BackendPorts> {
  const choose = async (name: PortName): Promise<[PortName, number]> => {
    const { port, what } = DEFAULT_PORTS[name];
    const flag = `--${name}-port`;
    const fixed = parsePort(given(name), flag);
    if (fixed === undefined) return [name, await preferPort(port, what, log)];
    await refuseTakenPort(fixed, what, flag);
    return [name, fixed];
  };
  return Object.fromEntries(await Promise.all(PORT_NAMES.map(choose)));
}
