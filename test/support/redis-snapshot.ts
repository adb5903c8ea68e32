import { Redis } from "ioredis";

interface Kept {
  readonly key: string;
  readonly ttlMs: number;
  /** Commands that make the key again. */
  readonly commands: readonly (readonly [string, ...string[]])[];
}

export interface RedisSnapshot {
  readonly keys: readonly Kept[];
}

/**
 * Takes and restores everything a Redis holds, as a backup or a failover to an older replica would. By the content of
 * each key and not by DUMP, which the embedded server does not have.
 */
export function redisSnapshots(url: string): {
  take(): Promise<RedisSnapshot>;
  restore(snapshot: RedisSnapshot): Promise<void>;
  close(): void;
} {
  const client = new Redis(url);
  return {
    take: async () => {
      const keys = await client.keys("*");
      return { keys: await Promise.all(keys.map((key) => keep(client, key))) };
    },
    restore: async ({ keys }) => {
      // In one step, as nobody sees half of a replica.
      const steps = client.multi().flushall();
      for (const { key, ttlMs, commands } of keys) {
        for (const [name, ...args] of commands) steps.call(name, ...args);
        if (ttlMs > 0) steps.pexpire(key, ttlMs);
      }
      for (const [error] of (await steps.exec()) ?? []) if (error !== null) throw error;
    },
    close: () => client.disconnect(),
  };
}

async function keep(client: Redis, key: string): Promise<Kept> {
  const ttlMs = Math.max(0, await client.pttl(key));
  return { key, ttlMs, commands: await commandsFor(client, key) };
}

async function commandsFor(client: Redis, key: string): Promise<Kept["commands"]> {
  const type = await client.type(key);
  switch (type) {
    case "hash":
      return [["HSET", key, ...Object.entries(await client.hgetall(key)).flat()]];
    case "set":
      return [["SADD", key, ...(await client.smembers(key))]];
    case "stream": {
      const entries = await client.xrange(key, "-", "+");
      return entries.map(([id, fields]) => ["XADD", key, id, ...fields] as const);
    }
    case "string":
      return [["SET", key, (await client.get(key)) ?? ""]];
    default:
      throw new Error(`a snapshot of type ${type} is not needed so far`);
  }
}
