import type { RedisSettings } from "./lib/runtime/connect.redis.ts";
import { connectRedis } from "./lib/runtime/connect.redis.ts";
import {
  createUsageProducer,
  type ProducerOptions,
  type UsageProducer,
} from "./lib/usage/usage-producer.ts";

/**
 * The client that other Node services use to record usage: one per process. Connects on first use. The functions of
 * this service do not need it; it is built beside them as `dist/producer.js`.
 */
export function connectUsageProducer(
  settings: RedisSettings,
  options: Omit<ProducerOptions, "redis"> = {},
): UsageProducer & { close(): Promise<void> } {
  const redis = connectRedis(settings);
  const { record, recordAll } = createUsageProducer({ ...options, redis });
  return { record, recordAll, close: () => redis.close() };
}
