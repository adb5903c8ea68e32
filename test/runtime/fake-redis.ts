import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
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
 * A Redis that loses connections and answers at will: what a real server does only under conditions that no test can
 * make on demand. As a cluster it has a second node with the last slot only, so that it outlives the loss of the first.
 */
export async function openFakeRedis(
  answer: (command: readonly string[], connection: number) => FakeAnswer,
): Promise<FakeRedis> {
  const commands: (readonly string[])[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  const accept = (socket: Socket) => {
    const connection = ++connections;
    sockets.add(socket.on("error", () => {}).on("close", () => sockets.delete(socket)));
    readCommands(socket, (command) => {
      const handshake = handshakeReply(command, port, secondPort);
      if (handshake === undefined) commands.push(command);
      const reply = handshake ?? answer(command, connection);
      if (reply === "hang-up") socket.destroy();
      else if (reply !== "silence") socket.write(reply);
    });
  };
  const servers = [createServer(accept), createServer(accept)] as const;
  const [port, secondPort] = await Promise.all([listen(servers[0]), listen(servers[1])]);
  return {
    port,
    commands,
    close: () => {
      for (const socket of sockets) socket.destroy();
      for (const server of servers) server.close();
    },
  };
}

const listen = (server: Server): Promise<number> =>
  new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
  });

/** A request has the form of a reply that is a list of texts. */
function readCommands(socket: Socket, serve: (command: readonly string[]) => void): void {
  const parser = new RedisParser({
    returnBuffers: false,
    returnReply: (request) => serve((request as string[]).map(String)),
    returnError: () => {},
    returnFatalError: () => {},
  });
  socket.on("data", (data) => parser.execute(data));
}

const bulk = (text: string) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
const slots = (first: number, last: number, port: number) =>
  `*3\r\n:${first}\r\n:${last}\r\n*2\r\n${bulk("127.0.0.1")}:${port}\r\n`;

function handshakeReply(
  [name, topic = ""]: readonly string[],
  port: number,
  secondPort: number,
): string | undefined {
  const command = `${name} ${topic}`.trim().toUpperCase();
  if (command === "INFO") return bulk("loading:0\r\n");
  if (command === "CLUSTER INFO") return bulk("cluster_state:ok\r\n");
  if (command !== "CLUSTER SLOTS") return undefined;
  return `*2\r\n${slots(0, 16_382, port)}${slots(16_383, 16_383, secondPort)}`;
}
