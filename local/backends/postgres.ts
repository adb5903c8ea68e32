import { existsSync, renameSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { type RunningChild, startChild } from "./child-process.ts";
import { lockFolder } from "./folder-lock.ts";
import { freePort, refuseTakenPort } from "./ports.ts";
import { type PostgresUser, preparePostgres } from "./postgres-binaries.ts";
import { StartError } from "./start-error.ts";

const READY_WITHIN_MS = 60_000;
/** The free port may be taken between choosing and listening. */
const PORT_ATTEMPTS_MAX = 3;
const PREDECESSOR_WAIT_MS = 6_000;
const POLL_MS = 100;
const IN_USE = /lock file "postmaster.pid" already exists|pre-existing shared memory block/;

export interface PostgresOptions {
  /** Holds the cluster; created on the first start, kept afterwards. */
  readonly dir: string;
  readonly port?: number;
  /** Server settings, for example `{ max_connections: "20" }`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Survives a crash of the machine as well; slower. A crash of the process never loses data. */
  readonly durable?: boolean;
  /** Gives up a start that is under way. */
  readonly abort?: AbortSignal;
}

export interface RunningPostgres {
  readonly url: string;
  readonly port: number;
  /** The postmaster. */
  readonly pid: number;
  readonly ended: Promise<string>;
  /** Fast shutdown: open transactions are rolled back. */
  stop(): Promise<void>;
  /** SIGKILL to the postmaster, as a crash would; its children end by themselves. */
  kill(): Promise<void>;
}

/** A private Postgres 17 on 127.0.0.1 from an npm package: no service manager, no root, no system package. */
export async function startPostgres(options: PostgresOptions): Promise<RunningPostgres> {
  if (options.port !== undefined) {
    await refuseTakenPort(options.port, "Postgres", "--postgres-port");
  }
  const dir = resolve(options.dir);
  const lock = await lockFolder(dir, "postgres");
  try {
    const server = await startServer(dir, options);
    void server.child.ended.then(lock.release);
    return toRunning(server);
  } catch (error) {
    lock.release();
    throw error;
  }
}

interface Server {
  readonly child: RunningChild;
  readonly port: number;
}

async function startServer(dir: string, options: PostgresOptions): Promise<Server> {
  const { binaries, user } = preparePostgres(dir);
  const data = join(dir, "data");
  if (!existsSync(data)) await initialise(binaries.initdb, dir, user);
  const start = (port: number): Promise<RunningChild> =>
    startChild({
      name: "Postgres",
      command: binaries.postgres,
      args: ["-D", data, "-p", String(port), ...settingArgs(options)],
      cwd: dir,
      ...user,
      ready: /database system is ready to accept connections/,
      readyWithinMs: READY_WITHIN_MS,
      guardSignal: "INT",
      ...(options.abort === undefined ? {} : { abort: options.abort }),
    });
  return afterPredecessor(() => startOnPort(start, options.port));
}

/** In a folder with another name, so that a cluster which was not finished is never taken for one. */
async function initialise(command: string, dir: string, user: PostgresUser): Promise<void> {
  const draft = join(dir, "data.new");
  rmSync(draft, { recursive: true, force: true });
  const args = ["-D", draft, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"];
  // A synchronous spawn would hold up everything else that is starting. It prints "Success" last.
  const options = { command, args, cwd: dir, ...user, ready: /Success\./ };
  const child = await startChild({ name: "initdb", ...options });
  const how = await child.ended;
  if (how !== "exit code 0") throw new StartError(`initdb failed (${how}):\n${child.output()}`);
  renameSync(draft, join(dir, "data"));
}

/**
 * A killed server lives on in its children for a moment. Postgres notices that by itself, which is why its lock file is
 * never deleted here: without it two servers could write to one folder.
 */
async function afterPredecessor(start: () => Promise<Server>): Promise<Server> {
  const deadline = Date.now() + PREDECESSOR_WAIT_MS;
  for (;;) {
    try {
      return await start();
    } catch (error) {
      const isInUse = error instanceof StartError && IN_USE.test(error.message);
      if (!isInUse || Date.now() >= deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
}

async function startOnPort(
  start: (port: number) => Promise<RunningChild>,
  wanted: number | undefined,
): Promise<Server> {
  for (let attempt = 1; ; attempt++) {
    const port = wanted ?? (await freePort());
    try {
      return { child: await start(port), port };
    } catch (error) {
      const isTaken = error instanceof StartError && /Address already in use/.test(error.message);
      if (!isTaken || wanted !== undefined || attempt === PORT_ATTEMPTS_MAX) throw error;
    }
  }
}

function settingArgs(options: PostgresOptions): string[] {
  const settings = {
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    max_connections: "100",
    shared_buffers: "32MB",
    ...(options.durable === true
      ? {}
      : { fsync: "off", synchronous_commit: "off", full_page_writes: "off" }),
    ...options.settings,
  };
  return Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
}

const toRunning = ({ child, port }: Server): RunningPostgres => ({
  url: `postgres://postgres@127.0.0.1:${port}/postgres`,
  port,
  pid: child.pid,
  ended: child.ended,
  stop: child.stop,
  kill: child.kill,
});
