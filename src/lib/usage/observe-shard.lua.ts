import { redisScript } from "../kernel/redis.ts";

/**
 * Is the log still the one that was observed? Only then may the next observation replace it. Runs on the primary, so a
 * lagging replica cannot accuse anybody. A contradiction ends the lineage at once, together with the answer how much of
 * it is left: the last entry at or before the observed one that is not younger than it by Redis' own clock.
 *
 * KEYS 1 meta hash  2 log stream
 * ARGV 1 lineage observed, '' = none   2 n, 3 running sum, 4 count ('' = unknown) and 5 anchor ('' = unknown) observed
 *      6 candidate lineage id
 * Reply {status, lineage, n, running sum, count, anchor, kept n, kept running sum, kept count}
 *       status 0 nothing contradicts   1 contradicted, and the lineage was ended now   2 it had ended before
 *       the head as it is now; anchor '' when entry n is no use. Kept: of the observed lineage, count '' = unknown
 */
export const OBSERVE_SHARD = redisScript(
  "observe-shard",
  `
local PAGE, PAGES_MAX = 1000, 50
local meta = redis.call('HMGET', KEYS[1], 'inc', 'n', 'cum', 'cnt')
local inc, n, cum, cnt = meta[1] or '', meta[2] or '0', meta[3] or '0', meta[4] or '0'
local seenInc, seenN, seenCum, seenCount, seenAnchor = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

-- Running sum, anchor, count and time of an entry; nil when it is neither a use nor a marker.
local function parse(entry)
  local d = entry and entry[2][2] or ''
  local sum, uid, count, us =
    string.match(d, '^(-?%d+)|(%x+%-[%x%-]+)|[^|]*|[^|]*|[^|]*|[^|]*|(%d+)|(%d+)|')
  if sum then return sum, uid .. '@' .. us, count, tonumber(us) end
  sum, count = string.match(d, '^(-?%d+)|R|[^|]*|[^|]*|[^|]*|[^|]*|[^|]*|(%d+)$')
  return sum, '', count, nil
end
local function entryAt(number)
  return redis.call('XRANGE', KEYS[2], number .. '-0', number .. '-0')[1]
end

-- What the log still shares with the one that was observed.
local function kept(fallbackN, fallbackSum, fallbackCount)
  local seenUs = tonumber(string.match(seenAnchor, '@(%d+)$') or '')
  if not seenUs then return fallbackN, fallbackSum, fallbackCount end
  local from = seenN
  for _ = 1, PAGES_MAX do
    local page = redis.call('XREVRANGE', KEYS[2], from, '-', 'COUNT', PAGE)
    for _, entry in ipairs(page) do
      local sum, _, count, us = parse(entry)
      if us and us <= seenUs then return string.match(entry[1], '^%d+'), sum, count end
    end
    if #page < PAGE then break end
    from = string.format('%.0f', tonumber(string.match(page[#page][1], '^%d+')) - 1)
  end
  return '0', '0', '0'
end

local status, keptN, keptSum, keptCount = 0, '0', '0', '0'
if seenInc ~= '' then
  local sum, anchor = parse(entryAt(seenN))
  local isThere = sum == seenCum and (seenAnchor == '' or anchor == seenAnchor)
  if seenInc ~= inc then
    status = 2
    local _, b, c = string.match(redis.call('HGET', KEYS[1], 'rw:' .. seenInc) or '', '^(%d+)|(%d+)|(-?%d+)$')
    if isThere then
      keptN, keptSum, keptCount = seenN, seenCum, seenCount
    else
      keptN, keptSum, keptCount = kept(b or '0', c or '0', b and '' or '0')
    end
  elseif tonumber(n) < tonumber(seenN) or (seenCount ~= '' and tonumber(cnt) < tonumber(seenCount))
    or (sum and not isThere) then
    status = 1
    local isBehind = tonumber(n) < tonumber(seenN)
    keptN, keptSum, keptCount = kept(isBehind and n or '0', isBehind and cum or '0', isBehind and cnt or '0')
    inc = ARGV[6]
    if isBehind then n = seenN end
    redis.call('HSET', KEYS[1], 'inc', inc, 'n', n, 'cum', cum, 'cnt', cnt)
    redis.call('HSETNX', KEYS[1], 'rw:' .. seenInc, '0|' .. keptN .. '|' .. keptSum)
  end
end

local _, anchor = parse(entryAt(n))
return {status, inc, n, cum, cnt, anchor, keptN, keptSum, keptCount}
`,
);
