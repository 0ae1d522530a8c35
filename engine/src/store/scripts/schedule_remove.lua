-- Forgets a schedule. Jobs that it made stay.
-- KEYS prefix. ARGV time, member, its other order (name first), expected revision ('*' any), request.
-- Replies {'removed'} {'conflict', revision} {'gone'}. The same request again answers 'removed' again (E10), for ten minutes.
local member, by_name, expected, request = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local key, trace = schedule_key(member), prefix .. ':schedule_removed:' .. member
local revision = redis.call('HGET', key, 'revision')
if not revision then return { redis.call('GET', trace) == request and 'removed' or 'gone' } end
if expected ~= '*' and expected ~= revision then return { 'conflict', revision } end
redis.call('DEL', key)
redis.call('ZREM', prefix .. ':schedules', member)
redis.call('ZREM', prefix .. ':schedule_names', member)
redis.call('ZREM', prefix .. ':schedules_by_name', by_name)
redis.call('SET', trace, request, 'PX', 600000)
return { 'removed' }
