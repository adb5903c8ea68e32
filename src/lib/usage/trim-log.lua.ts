import { redisScript } from "../kernel/redis.ts";

/**
 * Forgets entries that were booked long ago. The lineage is checked because the numbers of another one mean nothing.
 *
 * KEYS 1 meta hash  2 log stream   ARGV 1 lineage  2 oldest n to keep
 * Reply: entries removed, or -1 when the lineage differs and nothing was done
 */
export const TRIM_LOG = redisScript(
  "trim-log",
  `
if redis.call('HGET', KEYS[1], 'inc') ~= ARGV[1] then return -1 end
return redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2] .. '-0')
`,
);
