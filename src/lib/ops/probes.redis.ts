import type { RedisDriver } from "../kernel/redis.ts";
import type { Probes } from "./probe-backends.ts";

export const cacheProbe = (redis: RedisDriver): Pick<Probes, "cache"> => ({
  cache: async (signal) => {
    await redis.command(["PING"], signal);
  },
});
