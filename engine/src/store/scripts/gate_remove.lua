-- Takes a gate away and lets go who waited behind it: for a limit by key, for any key (`*`). KEYS prefix.
-- ARGV time, field, expected ('*' whatever is there, else this value).
-- Reply: 'removed' | 'absent' | 'changed' (another value is there).
local field, expected = ARGV[2], ARGV[3]
local key = prefix .. ':gates'
local held = redis.call('HGET', key, field)
if not held then return 'absent' end
if expected ~= '*' and held ~= expected then return 'changed' end
redis.call('HDEL', key, field)
open_hold(string.find(field, '^l x ') and field .. ' *' or field, NOW)
redis.call('DEL', prefix .. ':opened:' .. field)
-- What waits for a rate was told its time by the clock that is accepted now, or by one that was wrong: it looks again.
if field == 'clock' then
  for _, hold in ipairs(redis.call('ZRANGEBYSCORE', OPENINGS, string.format('%.0f', NOW + 1), '(9e15', 'LIMIT', 0, 1000)) do
    if string.sub(hold, 1, 2) == 'l ' then open_hold(hold, NOW) end
  end
end
-- A claim that met a paused tenant took it out of the ring and noted which ring it was.
local tenant = string.match(field, '^t (.*)$')
if tenant then
  local idle = prefix .. ':idle:' .. tenant
  for _, ring in ipairs(redis.call('HKEYS', idle)) do redis.call('ZADD', prefix .. ':ring:' .. ring, 'NX', NOW, tenant) end
  redis.call('DEL', idle)
end
flush()
return 'removed'
