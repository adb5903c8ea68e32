import { connect, type Socket } from "node:net";
import RedisParser from "redis-parser";

/** An error reply of Redis: it belongs to one command, the connection is fine. */
export class RedisReplyError extends Error {
  override readonly name = "RedisReplyError";
}

/** The connection broke before every reply was there; what Redis did is unknown. */
export class ConnectionLostError extends Error {
  override readonly name = "ConnectionLostError";
}

export type RespReply = Buffer | number | null | RedisReplyError | readonly RespReply[];

interface Waiting {
  resolve(reply: RespReply): void;
  reject(error: ConnectionLostError): void;
}

/** One pipelined RESP2 connection to 127.0.0.1; opened by the first call, and by the next one after it broke. */
export class RespConnection {
  readonly #port: number;
  #socket: Socket | undefined;
  #waiting: Waiting[] = [];

  constructor(port: number) {
    this.#port = port;
  }

  /**
   * All commands of one call are written together, so that nothing comes between MULTI and EXEC.
   *
   * @throws ConnectionLostError
   */
  send(commands: readonly (readonly string[])[]): Promise<RespReply[]> {
    this.#socket ??= this.#open();
    const replies = commands.map(
      () => new Promise<RespReply>((resolve, reject) => this.#waiting.push({ resolve, reject })),
    );
    this.#socket.write(commands.map(encode).join(""));
    return Promise.all(replies);
  }

  close(): void {
    this.#socket?.destroy();
  }

  #open(): Socket {
    const socket = connect({ host: "127.0.0.1", port: this.#port, noDelay: true });
    // Each socket has its own list: a late event of the old one must not touch the calls of the new one.
    const waiting: Waiting[] = [];
    this.#waiting = waiting;
    const deliver = (reply: RespReply): void => waiting.shift()?.resolve(reply);
    const parser = new RedisParser({
      returnBuffers: true,
      returnReply: (reply) => deliver(withOwnErrors(reply)),
      returnError: (error) => deliver(new RedisReplyError(error.message)),
      returnFatalError: (error) => void socket.destroy(error),
    });
    socket.on("data", (data) => parser.execute(data));
    socket.on("error", () => {}); // "close" follows
    socket.on("close", () => {
      if (this.#socket === socket) this.#socket = undefined;
      const lost = new ConnectionLostError("the connection to Redis is lost");
      for (const { reject } of waiting.splice(0)) reject(lost);
    });
    return socket;
  }
}

function encode(command: readonly string[]): string {
  const parts = command.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`);
  return `*${command.length}\r\n${parts.join("")}`;
}

/** The parser has an error class of its own for the errors inside a list, such as those of EXEC. */
function withOwnErrors(reply: unknown): RespReply {
  if (reply instanceof Error) return new RedisReplyError(reply.message);
  return Array.isArray(reply) ? reply.map(withOwnErrors) : (reply as RespReply);
}
