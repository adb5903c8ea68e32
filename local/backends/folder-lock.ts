import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, realpathSync, rmSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { StartError } from "./start-error.ts";

/** A predecessor that was killed needs a moment until its children are gone. */
const WAIT_MS = 6_000;
const POLL_MS = 100;

/**
 * Makes a data folder ours alone until we end: two databases in one folder destroy it. The lock is a local socket, so it
 * vanishes with its process, however that ends; a file with a process id would outlive it and could name a stranger.
 *
 * @throws StartError when another process keeps the folder for longer than `waitMs`
 */
export async function lockFolder(
  dir: string,
  owner: string,
  waitMs = WAIT_MS,
): Promise<{ release(): void }> {
  mkdirSync(dir, { recursive: true });
  const address = lockAddress(realpathSync(dir), owner);
  const deadline = Date.now() + waitMs;
  for (;;) {
    const server = await tryLock(address);
    if (server !== undefined) return held(server, address);
    if (Date.now() >= deadline) throw inUse(dir);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function held(server: Server, address: string): { release(): void } {
  const removeFile = (): void => {
    if (isFile(address)) rmSync(address, { force: true });
  };
  process.once("exit", removeFile);
  const release = (): void => {
    server.close();
    process.off("exit", removeFile);
  };
  return { release };
}

const inUse = (dir: string): StartError =>
  new StartError(
    `Another process of this project uses ${dir}: \`npm start\`, \`npm run dev\` or \`npm run backends\` in another ` +
      "terminal. Stop it first.",
  );

function lockAddress(dir: string, owner: string): string {
  const digest = createHash("sha256").update(`${owner}\0${dir}`).digest("hex").slice(0, 24);
  const name = `worker-service-${digest}.lock`;
  if (process.platform === "linux") return `\0${name}`; // has no file that a kill could leave
  return process.platform === "win32" ? `\\\\.\\pipe\\${name}` : join(tmpdir(), name);
}

/** Whether the address is a file: a server that was killed leaves it. */
const isFile = (address: string): boolean => address.startsWith(tmpdir());

async function tryLock(address: string): Promise<Server | undefined> {
  const server = await listen(address);
  if (server !== undefined) return server;
  if (await isAnswered(address)) return undefined;
  if (isFile(address)) rmSync(address, { force: true });
  return listen(address);
}

function listen(address: string): Promise<Server | undefined> {
  const server = createServer((socket) => socket.destroy());
  server.unref();
  return new Promise((resolve) => {
    server.once("error", () => resolve(undefined));
    server.listen(address, () => resolve(server));
  });
}

async function isAnswered(address: string): Promise<boolean> {
  const socket = connect(address);
  socket.on("error", () => {});
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
