-- Keeps progress and log lines of a running job; tells listeners at most once a `gap_ms`. KEYS prefix.
-- ARGV time, id, fence, percent ('' unchanged), text, gap_ms, line_cap, request, then log lines. Reply: 'ok' | 'stale'.
-- Events: progress (told, not kept). The same request again says nothing twice (E10).
local id, fence, percent, text, gap = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], tonumber(ARGV[6])
local cap, request = tonumber(ARGV[7]), ARGV[8]
local r = load(id)
if not r or r.place ~= RUNNING or r.fence ~= fence then return 'stale' end
local key = prefix .. ':extras:' .. id
if redis.call('HGET', key, 'said') == request then return 'ok' end
redis.call('HSET', key, 'said', request)
if not has(r, EXTRAS) then set(r, EXTRAS); r.dirty = true end
if percent ~= '' then
  redis.call('HSET', key, 'percent', percent, 'text', text)
  local last = tonumber(redis.call('HGET', key, 'told') or 0)
  if NOW - last >= gap then
    redis.call('HSET', key, 'told', string.format('%.0f', NOW))
    tell(r, 'progress', percent .. ' ' .. text)
  end
end
for i = 9, #ARGV do
  local line = ARGV[i]
  redis.call('RPUSH', prefix .. ':log:' .. id, string.format('%.0f ', NOW) .. line)
end
if #ARGV >= 9 then redis.call('LTRIM', prefix .. ':log:' .. id, -cap, -1) end
flush()
return 'ok'
