import type { AddressInfo } from "node:net";
import { createServer, type Socket } from "node:net";
import RedisParser from "redis-parser";

/** What to do with a command: bytes to answer with, or what happens to the connection. */
export type FakeAnswer = string | "silence" | "hang-up";

export interface FakeRedis {
  readonly port: number;
  /** Every command that arrived, but for the handshake. */
  readonly commands: readonly (readonly string[])[];
  close(): void;
}

/**
 * A node of one, alone or as a cluster, that loses connections and answers at will: what a real server does only under
 * conditions that no test can make on demand.
 */
export async function openFakeRedis(
  answer: (command: readonly string[], connection: number) => FakeAnswer,
): Promise<FakeRedis> {
  const commands: (readonly string[])[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer((socket) => {
    const connection = ++connections;
    sockets.add(socket.on("error", () => {}).on("close", () => sockets.delete(socket)));
    const serve = (request: unknown) => {
      const command = (request as string[]).map(String);
      const handshake = handshakeReply(command, port);
      if (handshake === undefined) commands.push(command);
      const reply = handshake ?? answer(command, connection);
      if (reply === "hang-up") socket.destroy();
      else if (reply !== "silence") socket.write(reply);
    };
    const parser = new RedisParser({
      returnBuffers: false,
      returnReply: serve,
      returnError: () => {},
      returnFatalError: () => {},
    });
    socket.on("data", (data) => parser.execute(data));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    commands,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

const bulk = (text: string) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
const LAST_SLOT = 16_383;

function handshakeReply([name, topic]: readonly string[], port: number): string | undefined {
  const command = `${name} ${topic ?? ""}`.trim().toUpperCase();
  if (command === "INFO") return bulk("loading:0\r\n");
  if (command === "CLUSTER INFO") return bulk("cluster_state:ok\r\n");
  const node = `*2\r\n${bulk("127.0.0.1")}:${port}\r\n`;
  if (command === "CLUSTER SLOTS") return `*1\r\n*3\r\n:0\r\n:${LAST_SLOT}\r\n${node}`;
  return undefined;
}
