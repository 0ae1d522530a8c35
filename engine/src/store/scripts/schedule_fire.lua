-- Fires a slot of a schedule: takes its job in and moves the cursor, or does neither. However many ask, one job comes of it.
-- KEYS prefix. ARGV time, member, revision, cursor before, slot, next slot, on_time_ms, max_live,
--   id, hot fields, rest of the record, run_at, wish (see admit).
-- Replies {'fired'} {'decided', cursor} {'changed', revision} {'gone'} {'clash'}: the id is another job's, and those of an enqueue
-- {'full', live} {'spent', used} {'ticket', why, tries left}. Events: accepted, scheduled. Sent again it answers 'fired' again (E10).
local member, revision, before, slot, next_slot = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local on_time, max_live = tonumber(ARGV[7]), tonumber(ARGV[8])
local id, head, tail, run_at, wish = ARGV[9], ARGV[10], ARGV[11], tonumber(ARGV[12]), ARGV[13]
local key = schedule_key(member)
local last = redis.call('HMGET', key, 'fired_slot', 'fired_job', 'max_lateness')
if last[1] == slot and last[2] == id then return { 'fired' } end
local other = decided(member, revision, before)
if other then return other end
if redis.call('EXISTS', record_key(id)) == 1 then return { 'clash' } end
local live = tonumber(redis.call('HGET', COUNTERS, 'live') or 0)
local refusal = take_in(id, head, tail, run_at, wish, live, max_live)
if refusal then return refusal end
flush()
local lateness = math.max(NOW - tonumber(slot), 0)
local most = math.max(lateness, tonumber(last[3] or 0))
local function number(n) return string.format('%.0f', n) end
redis.call('HINCRBY', key, 'fired', 1)
redis.call('HDEL', key, 'stuck_told')
if lateness > on_time then redis.call('HINCRBY', key, 'late', 1) end
redis.call('HINCRBY', key, 'lateness_sum', number(lateness))
redis.call('HSET', key, 'fired_slot', slot, 'fired_at', number(NOW), 'fired_job', id, 'lateness', number(lateness), 'max_lateness', number(most))
move(member, slot, next_slot)
return { 'fired' }
