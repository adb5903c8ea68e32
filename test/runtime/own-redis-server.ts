import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A real server with options of its own, for what the shared stack does not have: cluster mode, TLS. */
export interface OwnRedisServer {
  readonly port: number;
  readonly folder: string;
  kill(): Promise<void>;
  restart(): Promise<void>;
  freeze(): void;
  thaw(): void;
  close(): Promise<void>;
}

export const hasProgram = (name: string, argument = "--version"): boolean =>
  spawnSync(name, [argument], { stdio: "ignore" }).status === 0;

const START_MS = 5000;

/** @param options get the free port and an empty folder, and are the whole command line. */
export async function openRedisServer(
  options: (port: number, folder: string) => readonly string[],
): Promise<OwnRedisServer> {
  const folder = await mkdtemp(join(tmpdir(), "worker-redis-"));
  const port = await findFreePort();
  const line = [...options(port, folder), "--dir", folder, "--save", "", "--bind", "127.0.0.1"];
  let server = await start(line, port);
  return {
    port,
    folder,
    kill: () => kill(server),
    restart: async () => {
      server = await start(line, port);
    },
    freeze: () => server.kill("SIGSTOP"),
    thaw: () => server.kill("SIGCONT"),
    close: async () => {
      await kill(server);
      await rm(folder, { recursive: true });
    },
  };
}

/** A port that was free a moment ago. */
export function findFreePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

async function start(line: readonly string[], port: number): Promise<ChildProcess> {
  const server = spawn("redis-server", line, { stdio: "ignore" });
  const killServer = () => server.kill("SIGKILL");
  process.once("exit", killServer);
  server.once("exit", () => process.off("exit", killServer));
  const startedAt = performance.now();
  while (!(await accepts(port))) {
    if (server.exitCode !== null) throw new Error(`redis-server ended with ${server.exitCode}`);
    if (performance.now() - startedAt > START_MS) throw new Error("redis-server is not ready");
  }
  return server;
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(socket.destroy().destroyed));
    socket.once("error", () => setTimeout(resolve, 10, false));
  });
}

function kill(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    server.once("exit", () => resolve());
    server.kill("SIGKILL");
  });
}
