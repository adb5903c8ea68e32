import { spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startChild } from "../../local/backends/child-process.ts";
import { freePort } from "../../local/backends/ports.ts";

/** A real server with options of its own, for what the shared stack does not have: cluster mode, TLS, logins. */
export interface OwnRedisServer {
  readonly port: number;
  readonly folder: string;
  kill(): Promise<void>;
  /** Starts again on the same port, empty. */
  restart(): Promise<void>;
  freeze(): void;
  thaw(): void;
  close(): Promise<void>;
}

export const hasProgram = (name: string, argument = "--version"): boolean =>
  spawnSync(name, [argument], { stdio: "ignore" }).status === 0;

/** @param options get a free port and an empty folder, and return the command line. */
export async function openRedisServer(
  options: (port: number, folder: string) => readonly string[],
): Promise<OwnRedisServer> {
  const folder = await mkdtemp(join(tmpdir(), "worker-redis-"));
  const port = await freePort();
  const line = [...options(port, folder), "--dir", folder, "--save", "", "--bind", "127.0.0.1"];
  const start = () =>
    startChild({
      name: "Redis",
      command: "redis-server",
      args: line,
      ready: /Ready to accept connections/,
      guardSignal: "TERM",
    });
  const remove = () => rm(folder, { recursive: true });
  let server = await start().catch(async (error: unknown) => {
    await remove();
    throw error;
  });
  return {
    port,
    folder,
    kill: () => server.kill(),
    restart: async () => {
      server = await start();
    },
    freeze: () => server.signal("SIGSTOP"),
    thaw: () => server.signal("SIGCONT"),
    close: async () => {
      await server.kill();
      await remove();
    },
  };
}
