import { untilAborted } from "../kernel/deadline.ts";
import type { RedisDriver } from "../kernel/redis.ts";
import { buildDriver, REDIS_TIMEOUT_MS } from "./build-driver.redis.ts";
import { parseRedisAddress } from "./redis-address.redis.ts";

export interface IoredisOptions {
  /** See `parseRedisAddress`. */
  readonly url: string;
  readonly timeoutMs?: number | undefined;
}

/**
 * Redis over its own protocol: one node or a cluster. Connects on first use. While the connection is away nothing is
 * queued: a call waits a moment for it, or fails.
 */
export function createIoredisDriver(options: IoredisOptions): RedisDriver {
  const { url, timeoutMs = REDIS_TIMEOUT_MS } = options;
  const address = parseRedisAddress(url);
  let opened: ReturnType<typeof open> | undefined;
  const open = async () => {
    const [{ openConnection }, commands] = await Promise.all([
      import("./ioredis-connection.redis.ts"),
      import("./ioredis-commands.redis.ts"),
    ]);
    return { ...commands, connection: openConnection(address, timeoutMs) };
  };
  const ready = async (signal: AbortSignal) => {
    opened ??= open();
    const { connection, ...commands } = await opened;
    return { ...commands, ...(await untilAborted(connection.ready(), signal)) };
  };
  return buildDriver(
    {
      kind: "ioredis",
      send: async (commands, signal) => {
        const { client, expectAnswer, sendEach } = await ready(signal);
        return expectAnswer(sendEach(client, commands));
      },
      sendAtomic: async (commands, signal) => {
        const { client, expectAnswer, sendAtomic } = await ready(signal);
        return expectAnswer(sendAtomic(client, commands));
      },
      close: async () => {
        if (opened !== undefined) await (await opened).connection.close();
      },
    },
    { timeoutMs },
  );
}
