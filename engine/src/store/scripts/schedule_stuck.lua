-- Says that the next slot of a schedule cannot be decided now. It stays due, is asked for again later, and stands in nobody's way
-- until then: whoever looks for due schedules takes the earliest first, and a full page of these would hold up all others.
-- KEYS prefix. ARGV time, member, revision, cursor before, slot, delay_ms, why, alert (its document; '' none).
-- Replies {'waits'} {'decided', cursor} {'changed', revision} {'gone'}. Sent again it tells nothing twice (E10).
local member, revision, before, slot = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local delay, why, alert = tonumber(ARGV[6]), ARGV[7], ARGV[8]
local other = decided(member, revision, before)
if other then return other end
local key, at = schedule_key(member), string.format('%.0f', NOW)
local held = redis.call('HMGET', key, 'stuck_since', 'stuck_told')
redis.call('HSET', key, 'stuck_slot', slot, 'stuck_since', held[1] or at, 'stuck_why', why)
if alert ~= '' and not held[2] then
  redis.call('XADD', prefix .. ':alerts', 'MAXLEN', '~', 1000, '*', 'word', 'schedule_stuck', 'at', at, 'document', alert)
  redis.call('HSET', key, 'stuck_told', at)
end
redis.call('ZADD', prefix .. ':schedules', string.format('%.0f', NOW + delay), member)
return { 'waits' }
