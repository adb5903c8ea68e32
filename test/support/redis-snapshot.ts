import { Redis } from "ioredis";

export interface RedisSnapshot {
  readonly keys: readonly { readonly key: string; readonly ttlMs: number; readonly dump: Buffer }[];
}

/** Takes and restores everything a Redis holds, as a backup or a failover to an older replica would. */
export function redisSnapshots(url: string): {
  take(): Promise<RedisSnapshot>;
  restore(snapshot: RedisSnapshot): Promise<void>;
  close(): void;
} {
  const client = new Redis(url);
  return {
    take: async () => {
      const keys = await client.keys("*");
      const taken = await Promise.all(
        keys.map(async (key) => ({
          key,
          ttlMs: Math.max(0, await client.pttl(key)),
          dump: await client.dumpBuffer(key),
        })),
      );
      return { keys: taken.filter(({ dump }) => dump !== null) };
    },
    restore: async ({ keys }) => {
      await client.flushall();
      for (const { key, ttlMs, dump } of keys) await client.restore(key, ttlMs, dump);
    },
    close: () => client.disconnect(),
  };
}
