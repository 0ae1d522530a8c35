-- Makes an ended delivery due again under its first id. KEYS prefix. ARGV time, endpoint, id. Reply: 1 | 0 (not known).
local endpoint, id = ARGV[2], ARGV[3]
local key = delivery_key(endpoint, id)
local before = redis.call('HGET', key, 'state')
if not before then return 0 end
if before ~= 'pending' then redis.call('HINCRBY', COUNTERS, 'webhook_backlog', 1) end
redis.call('HSET', key, 'state', 'pending', 'attempt', 0, 'replay', 1)
redis.call('PERSIST', key)
redis.call('PERSIST', key .. ':log')
redis.call('ZADD', queue_key(endpoint), NOW, id)
set_next_due(endpoint)
redis.call('PUBLISH', prefix .. ':wake', '!deliveries')
return 1
