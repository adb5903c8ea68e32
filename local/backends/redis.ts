import { accessSync, constants, mkdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import { type RunningChild, startChild, startNodeChild } from "./child-process.ts";
import { freePort, refuseTakenPort } from "./ports.ts";
import { StartError } from "./start-error.ts";

const READY_WITHIN_MS = 15_000;
/** The free port may be taken between choosing and listening. */
const PORT_ATTEMPTS_MAX = 3;

export type RedisKind = "redis-server" | "js-redis-server";

export interface RedisOptions {
  readonly port?: number;
  /** Keeps the data (append-only file). js-redis-server cannot; without it nothing is kept. */
  readonly dir?: string;
  /** Forces one of the two; else `redis-server` when the PATH has it and WORKER_LOCAL_REDIS is not `embedded`. */
  readonly kind?: RedisKind;
  /** Gives up a start that is under way. */
  readonly abort?: AbortSignal;
}

export interface RunningRedis {
  readonly url: string;
  readonly port: number;
  readonly kind: RedisKind;
  readonly pid: number;
  readonly ended: Promise<string>;
  stop(): Promise<void>;
  /** SIGKILL, as a crash would. */
  kill(): Promise<void>;
  /** SIGSTOP: connections stay open and nothing answers. */
  freeze(): void;
  thaw(): void;
}

/** A private Redis on 127.0.0.1: the real server when there is one, else an embedded one in its own process. */
export async function startRedis(options: RedisOptions = {}): Promise<RunningRedis> {
  const kind = options.kind ?? availableRedis();
  if (options.port !== undefined) await refuseTakenPort(options.port, "Redis", "--redis-port");
  const start = kind === "redis-server" ? startServer : startEmbedded;
  const { child, port } = await start(options);
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    kind,
    pid: child.pid,
    ended: child.ended,
    stop: child.stop,
    kill: child.kill,
    freeze: () => child.signal("SIGSTOP"),
    thaw: () => child.signal("SIGCONT"),
  };
}

/** js-redis-server is right but slow on large keys, and forgets everything when it stops. */
export function availableRedis(env: NodeJS.ProcessEnv = process.env): RedisKind {
  if (env["WORKER_LOCAL_REDIS"] === "embedded") return "js-redis-server";
  return isOnPath("redis-server", env["PATH"]) ? "redis-server" : "js-redis-server";
}

export const isOnPath = (program: string, path: string = process.env["PATH"] ?? ""): boolean =>
  path.split(delimiter).some((folder) => folder !== "" && isExecutable(join(folder, program)));

function isExecutable(file: string): boolean {
  const names = process.platform === "win32" ? [`${file}.exe`, `${file}.cmd`] : [file];
  return names.some((name) => {
    try {
      accessSync(name, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

interface Server {
  readonly child: RunningChild;
  readonly port: number;
}

async function startServer({ port: wanted, dir, abort }: RedisOptions): Promise<Server> {
  if (dir !== undefined) mkdirSync(dir, { recursive: true });
  for (let attempt = 1; ; attempt++) {
    const port = wanted ?? (await freePort());
    try {
      const child = await startChild({
        name: "Redis",
        command: "redis-server",
        args: ["--port", String(port), ...serverArgs(dir)],
        ready: /Ready to accept connections/,
        readyWithinMs: READY_WITHIN_MS,
        guardSignal: "TERM",
        ...(abort === undefined ? {} : { abort }),
      });
      return { child, port };
    } catch (error) {
      const isTaken = error instanceof StartError && /Address already in use/.test(error.message);
      if (!isTaken || wanted !== undefined || attempt === PORT_ATTEMPTS_MAX) throw error;
    }
  }
}

/** Never evicts, as the accounting demands of the hosted one. */
const serverArgs = (dir: string | undefined): string[] => [
  ...[
    "--bind",
    "127.0.0.1",
    "--protected-mode",
    "no",
    "--save",
    "",
    "--maxmemory-policy",
    "noeviction",
  ],
  ...(dir === undefined ? ["--appendonly", "no"] : ["--appendonly", "yes", "--dir", dir]),
];

async function startEmbedded({ port, abort }: RedisOptions): Promise<Server> {
  const entry = new URL("./js-redis.child.ts", import.meta.url);
  const child = await startNodeChild("js-redis-server", entry, ["--port", String(port ?? 0)], {
    ...(abort === undefined ? {} : { abort }),
  });
  return { child, port: Number(child.value) };
}
