-- Decides that slots of a schedule do not fire: counts them, says so among the alerts, moves the cursor.
-- KEYS prefix. ARGV time, member, revision, cursor before, last of the slots, next slot, how many, why,
--   alert (its document; '' none; 'later': with the next one).
-- Replies {'skipped'} {'decided', cursor} {'changed', revision} {'gone'}. Sent again it answers 'skipped' again and counts nothing (E10).
local member, revision, before, slot, next_slot = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local many, why, alert = tonumber(ARGV[7]), ARGV[8], ARGV[9]
local key = schedule_key(member)
local last = redis.call('HMGET', key, 'cursor', 'missed_slot', 'missed_after')
if last[1] == slot and last[2] == slot and last[3] == before then return { 'skipped' } end
local other = decided(member, revision, before)
if other then return other end
local at = string.format('%.0f', NOW)
redis.call('HINCRBY', key, 'missed', many)
redis.call('HSET', key, 'missed_slot', slot, 'missed_after', before, 'missed_at', at, 'missed_why', why)
-- A long outage is decided in pieces, and told once, by the last of them.
if alert == 'later' then
  redis.call('HINCRBY', key, 'untold', many)
elseif alert ~= '' then
  redis.call('XADD', prefix .. ':alerts', 'MAXLEN', '~', 1000, '*', 'word', 'schedule_missed', 'at', at, 'document', alert)
  redis.call('HSET', key, 'told_at', at)
  redis.call('HDEL', key, 'untold')
end
move(member, slot, next_slot)
return { 'skipped' }
