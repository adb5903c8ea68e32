import { redisScript } from "../kernel/redis.ts";

/**
 * Starts a new lineage. Compare-and-swap on the lineage id: of several workers one wins, and a repeated call finds
 * that the lineage already changed. Numbers keep growing across lineages.
 *
 * KEYS 1 meta hash   ARGV 1 lineage seen  2 new lineage  3 n of the cursor  4 'behind' or 'anchor'
 * Reply {0, lineage} somebody else was faster   {1, lineage} done
 *       {2, lineage} only with 'behind': n is not behind after all, the read came from a lagging replica
 */
export const START_LINEAGE = redisScript(
  "start-lineage",
  `
local meta = redis.call('HMGET', KEYS[1], 'inc', 'n', 'cum', 'cnt')
local inc, n, cum, cnt = meta[1] or '', meta[2] or '0', meta[3] or '0', meta[4] or '0'
if inc ~= ARGV[1] then return {0, inc} end
if ARGV[4] == 'behind' and tonumber(n) >= tonumber(ARGV[3]) then return {2, inc} end
local top = n
if tonumber(ARGV[3]) > tonumber(n) then top = ARGV[3] end
redis.call('HSET', KEYS[1], 'inc', ARGV[2], 'n', top, 'cum', cum, 'cnt', cnt)
if inc ~= '' then redis.call('HSETNX', KEYS[1], 'rw:' .. inc, '0|' .. n .. '|' .. cum) end
return {1, ARGV[2]}
`,
);
