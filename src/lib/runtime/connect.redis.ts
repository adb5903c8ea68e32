import { permanent } from "../kernel/errors.ts";
import type { RedisDriver } from "../kernel/redis.ts";
import { createIoredisDriver } from "./ioredis-driver.redis.ts";
import { createUpstashDriver } from "./upstash-driver.redis.ts";

export interface RedisSettings {
  /** Wins when both are set. */
  readonly redisUrl?: string | undefined;
  readonly upstash?: { readonly url: string; readonly token: string } | undefined;
}

/** The one Redis of the process. Touches no network before the first call. */
export function connectRedis({ redisUrl, upstash }: RedisSettings): RedisDriver {
  if (redisUrl !== undefined) return createIoredisDriver({ url: redisUrl });
  if (upstash !== undefined) return createUpstashDriver(upstash);
  throw permanent("config_invalid", { field: "REDIS_URL", reason: "no Redis is configured" });
}
