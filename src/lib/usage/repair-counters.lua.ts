import { redisScript } from "../kernel/redis.ts";

/**
 * Corrects counters of one shard, all periods in one step. Compare-and-swap on the name of the last repair and on the
 * lineage: two runs, a repeated call, or a call whose reply was lost can never correct the same difference twice.
 * Without counters it only spends the epoch, so that a repair that was planned on it cannot be applied any more.
 *
 * KEYS 1 meta hash   2 .. counter hashes
 * ARGV 1 epoch seen, '' = none   2 new epoch   3 lineage seen   then for each counter hash:
 *      its expiry in seconds since 1970, number of corrections, and tenant and delta of each
 * Reply: -1 = another repair or lineage came between, nothing was changed; else the corrections that Redis refused
 */
export const REPAIR_COUNTERS = redisScript(
  "repair-counters",
  `
local meta = redis.call('HMGET', KEYS[1], 'rep', 'inc')
if (meta[1] or '') ~= ARGV[1] or (meta[2] or '') ~= ARGV[3] then return -1 end
local refused, at = 0, 4
for k = 2, #KEYS do
  local expiry, corrections = ARGV[at], tonumber(ARGV[at + 1])
  at = at + 2
  for _ = 1, corrections do
    local reply = redis.pcall('HINCRBY', KEYS[k], ARGV[at], ARGV[at + 1])
    if type(reply) == 'table' and reply.err then
      if string.find(reply.err, 'hash value', 1, true) then
        -- It is not a number and counts as 0: the delta is the value.
        redis.call('HSET', KEYS[k], ARGV[at], ARGV[at + 1])
      else
        refused = refused + 1
      end
    end
    at = at + 2
  end
  if redis.call('TTL', KEYS[k]) == -1 then redis.call('EXPIREAT', KEYS[k], expiry) end
end
redis.call('HSET', KEYS[1], 'rep', ARGV[2])
return refused
`,
);
