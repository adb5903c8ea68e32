declare module "redis-parser" {
  /** Parses RESP2. A reply is a Buffer, number, null, Error or an array of those when `returnBuffers` is set. */
  class RedisParser {
    constructor(options: {
      returnBuffers: boolean;
      returnReply(reply: unknown): void;
      returnError(error: Error): void;
      returnFatalError(error: Error): void;
    });
    execute(data: Buffer): void;
  }
  export = RedisParser;
}
