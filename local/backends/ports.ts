import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { StartError } from "./start-error.ts";

const HOST = "127.0.0.1";

/** A port that was free a moment ago; for programs that cannot choose one themselves. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, HOST);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

export async function isPortFree(port: number): Promise<boolean> {
  const server = createServer();
  const isFree = await new Promise<boolean>((resolve) => {
    server.once("error", () => resolve(false));
    server.listen(port, HOST, () => resolve(true));
  });
  if (isFree) await new Promise((resolve) => server.close(resolve));
  return isFree;
}

/**
 * @param flag how to choose another port, for example `--redis-port`
 * @throws StartError that names the port, who wants it and what to do
 */
export async function refuseTakenPort(port: number, what: string, flag: string): Promise<void> {
  if (port === 0 || (await isPortFree(port))) return;
  throw new StartError(
    `Port ${port} is taken, and ${what} is to listen there. ` +
      `Stop what uses it (\`lsof -i :${port}\` names it), or choose another port with ${flag}.`,
  );
}

/** The wanted port when it is free, else 0 (any free port) and a note. */
export async function preferPort(
  wanted: number,
  what: string,
  note: (text: string) => void,
): Promise<number> {
  if (await isPortFree(wanted)) return wanted;
  note(`Port ${wanted} is taken; ${what} listens on a free one.`);
  return 0;
}
