import { redisScript } from "../kernel/redis.ts";

/**
 * Counts one use. All or nothing: a reply that is an error means that nothing was counted. Redis does not roll back a
 * script, so the order of the writes and the undo after a failed append are the atomicity.
 *
 * KEYS  1 meta hash   2 log stream   3 counter hash of the period   4 dedupe set   5 dedupe set of the hour before
 * ARGV  1 event id (UUID)          2 tenant               3 tokens: whole number, |tokens| ≤ 10^15, may be negative
 *       4 period yyyymm            5 occurredAt, ms       6 counter expiry, s since 1970     7 dedupe TTL, s
 *       8 candidate lineage id     9 last lineage acknowledged to this caller, or ''
 *      10 last n acknowledged to this caller, or '0'
 *      11 running sum that came with it, when this call shall verify it (about once a second), else ''
 *      12 '' or, in a replay, the lineage that was lost
 *      13 running sum that came with ARGV[10], always
 *      14 dimensions `type|model|agent|conversation`
 *      15 anchor `uid@recordedUs` that came with ARGV[10]; '' or absent: number and sum alone identify the entry
 * Reply {status, total of the tenant, n, running sum, lineage, anchor of entry n or '' when it is no use}; amounts are
 *       decimal strings
 *       status 1 recorded   0 duplicate, nothing changed
 *              2 recorded   3 duplicate, and Redis lost something that it had acknowledged to this caller
 * Entry `<n>-0`, field d: cum|uid|tokens|period|occurredMs|replayOf|count|recordedUs|type|model|agent|conversation|tenant
 * Marker                  cum|R|oldLineage|lastN|lastCum|survivingN|survivingCum|count
 */
export const RECORD_USAGE = redisScript(
  "record-usage",
  `
local tokens = ARGV[3]
local digits = string.match(tokens, '^%-?([1-9]%d*)$') or (tokens == '0' and tokens)
if not digits or (#digits > 15 and digits ~= '1000000000000000') then
  return redis.error_reply('EUSAGE tokens must be a whole number of at most 10^15')
end

-- Sums beyond this never go through a Lua number.
local EXACT = 9e15

local meta = redis.call('HMGET', KEYS[1], 'inc', 'n', 'cum', 'cnt')
local inc, n, cum, cnt = meta[1], meta[2], meta[3], meta[4]
if not inc then
  -- The first use, or the hash was lost while the stream survived: then go on counting where the stream ends.
  inc, n, cum, cnt = ARGV[8], '0', '0', '0'
  local top = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
  if top[1] then
    local d = top[1][2][2]
    n = string.match(top[1][1], '^%d+')
    cum = string.match(d, '^(-?%d+)|') or '0'
    cnt = string.match(d, '^[^|]*|R|[^|]*|[^|]*|[^|]*|[^|]*|[^|]*|(%d+)$')
      or string.match(d, '^[^|]*|[^|]*|[^|]*|[^|]*|[^|]*|[^|]*|(%d+)|') or '0'
  end
  redis.call('HSET', KEYS[1], 'inc', inc, 'n', n, 'cum', cum, 'cnt', cnt)
end
cnt = cnt or '0'

-- Appends an entry and moves n. Returns an error reply or nil.
local function append(value)
  local id = string.format('%.0f', tonumber(n) + 1)
  local reply = redis.pcall('XADD', KEYS[2], id .. '-0', 'd', value)
  if type(reply) == 'table' and reply.err then
    -- The stream is ahead of the hash (evicted, or a foreign XADD): go on after its last id.
    local info = redis.pcall('XINFO', 'STREAM', KEYS[2])
    if info.err then return reply end
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then
        id = string.format('%.0f', tonumber(string.match(info[i + 1], '^%d+')) + 1)
      end
    end
    reply = redis.pcall('XADD', KEYS[2], id .. '-0', 'd', value)
    if type(reply) == 'table' and reply.err then return reply end
  end
  n = id
  return nil
end

local function entryAt(number)
  return redis.call('XRANGE', KEYS[2], number .. '-0', number .. '-0')[1]
end
local function anchorOf(entry)
  local uid, us = string.match(entry and entry[2][2] or '',
    '^%-?%d+|(%x+%-[%x%-]+)|[^|]*|[^|]*|[^|]*|[^|]*|%d+|(%d+)|')
  return uid and uid .. '@' .. us or ''
end

local status = 1
local lastInc, lastN, checkCum, lastAnchor = ARGV[9], ARGV[10], ARGV[11], ARGV[15] or ''
-- After a rewind another caller's entry may have the number and the sum of the one that was lost, but not its anchor.
local function isAcknowledged(entry, sum)
  return string.sub(entry[2][2], 1, #sum + 1) == sum .. '|' and (lastAnchor == '' or anchorOf(entry) == lastAnchor)
end
if lastInc ~= '' and lastN ~= '0' then
  local lost, keptN, keptCum = false, n, cum
  if lastInc ~= inc then
    -- The lineage changed since this caller wrote: a flush, or somebody else noticed the rewind first.
    local ended = redis.call('HGET', KEYS[1], 'rw:' .. lastInc)
    if ended then
      local a, b, c = string.match(ended, '^(%d+)|(%d+)|(-?%d+)$')
      keptN, keptCum = b, c
      lost = tonumber(lastN) > tonumber(a)
    else
      local entry = entryAt(lastN)
      keptN, keptCum, lost = '0', '0', not (entry and isAcknowledged(entry, ARGV[13]))
    end
    if tonumber(lastN) <= tonumber(keptN) then lost = false end
  elseif tonumber(lastN) > tonumber(n) then
    lost = true -- Redis is behind what it acknowledged to this caller
  elseif checkCum ~= '' then
    -- Is the caller's last entry still the one stored there? Older than the oldest entry means trimmed: fine.
    local entry = entryAt(lastN)
    if entry then
      lost = not isAcknowledged(entry, checkCum)
    else
      local first = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)
      lost = first[1] ~= nil and tonumber(string.match(first[1][1], '^%d+')) < tonumber(lastN)
    end
    if lost then keptN, keptCum = '0', '0' end
  end
  if lost then
    if lastInc == inc then
      inc = ARGV[8]
      if tonumber(lastN) > tonumber(n) then n = lastN end
    end
    local failed = append(table.concat({cum, 'R', lastInc, lastN, ARGV[13], keptN, keptCum, cnt}, '|'))
    if failed then return failed end
    redis.call('HSET', KEYS[1], 'inc', inc, 'n', n, 'rw:' .. lastInc, lastN .. '|' .. keptN .. '|' .. keptCum)
  end
  if lastInc ~= inc then status = 2 end
end

if redis.call('SISMEMBER', KEYS[5], ARGV[1]) == 1 or redis.call('SADD', KEYS[4], ARGV[1]) == 0 then
  return {status == 2 and 3 or 0, redis.call('HGET', KEYS[3], ARGV[2]) or '0', n, cum, inc, anchorOf(entryAt(n))}
end
if redis.call('SCARD', KEYS[4]) == 1 then redis.call('EXPIRE', KEYS[4], ARGV[7]) end

local total = redis.pcall('HINCRBY', KEYS[3], ARGV[2], tokens)
if type(total) == 'table' then
  redis.call('SREM', KEYS[4], ARGV[1])
  return total
end

local oldCum, sum = cum, tonumber(cum) + tonumber(tokens)
local large = sum > EXACT or sum < -EXACT or #cum > 15
if large then
  local reply = redis.pcall('HINCRBY', KEYS[1], 'cum', tokens)
  if type(reply) == 'table' then
    local back = tokens == '0' and '0' or (string.sub(tokens, 1, 1) == '-' and string.sub(tokens, 2) or '-' .. tokens)
    redis.call('HINCRBY', KEYS[3], ARGV[2], back)
    redis.call('SREM', KEYS[4], ARGV[1])
    return reply
  end
  cum = redis.call('HGET', KEYS[1], 'cum')
else
  cum = string.format('%.0f', sum)
end

local count = string.format('%.0f', tonumber(cnt) + 1)
local time = redis.call('TIME')
local us = time[1] .. string.rep('0', 6 - #time[2]) .. time[2]
local failed = append(table.concat(
  {cum, ARGV[1], tokens, ARGV[4], ARGV[5], ARGV[12], count, us, ARGV[14], ARGV[2]}, '|'))
if failed then
  local back = tokens == '0' and '0' or (string.sub(tokens, 1, 1) == '-' and string.sub(tokens, 2) or '-' .. tokens)
  redis.call('HINCRBY', KEYS[3], ARGV[2], back)
  if large then redis.call('HSET', KEYS[1], 'cum', oldCum) end
  redis.call('SREM', KEYS[4], ARGV[1])
  return failed
end
redis.call('HSET', KEYS[1], 'n', n, 'cum', cum, 'cnt', count)

if total == tonumber(tokens) and redis.call('HLEN', KEYS[3]) == 1 then redis.call('EXPIREAT', KEYS[3], ARGV[6]) end
if total > EXACT or total < -EXACT then
  total = redis.call('HGET', KEYS[3], ARGV[2])
else
  total = string.format('%.0f', total)
end
return {status, total, n, cum, inc, ARGV[1] .. '@' .. us}
`,
);
