-- Writes what is said of a schedule. While its times stay the same (`rhythm`), slots that are due stay due; else they count from now.
-- KEYS prefix. ARGV time, member, its other order (name first), expected revision ('*' any, '0' it must be new), most schedules,
--   rules, job, rhythm, now, next slot.
-- Replies {'written', revision} {'same', revision} {'conflict', revision} {'full', how many} {'late', cursor}: later slots are decided
-- already, and the next one is to be counted from there. What is there already is the same, so that a write sent again answers as
-- it did (E10), whatever revision it expected.
local member, by_name, expected, most = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local rules, job, rhythm, cursor, next_slot = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local key, names = schedule_key(member), prefix .. ':schedule_names'
local held = redis.call('HMGET', key, 'revision', 'rules', 'job', 'rhythm', 'cursor', 'next')
local revision = tonumber(held[1] or 0)
local same = revision > 0 and held[2] == rules and held[3] == job
local wanted = expected == '*' and revision or tonumber(expected)
if same and (wanted == revision or wanted + 1 == revision) then return { 'same', revision } end
if wanted ~= revision then return { 'conflict', revision } end
if revision == 0 and redis.call('ZCARD', names) >= most then return { 'full', most } end
if held[4] ~= rhythm and tonumber(held[5] or 0) > tonumber(cursor) then return { 'late', held[5] } end
redis.call('HSET', key, 'revision', revision + 1, 'rules', rules, 'job', job, 'rhythm', rhythm, 'changed_at', string.format('%.0f', NOW))
redis.call('ZADD', names, 0, member)
redis.call('ZADD', prefix .. ':schedules_by_name', 0, by_name)
redis.call('HDEL', key, 'stuck_told')
if held[4] ~= rhythm then move(member, cursor, next_slot) else line_up(member, held[6]) end
return { 'written', revision + 1 }
