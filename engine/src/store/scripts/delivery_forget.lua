-- Forgets the oldest deliveries of an endpoint that is no more, sent or not, a bounded number at a time. KEYS prefix.
-- ARGV time, endpoint, limit. Reply: 'done' | 'more'.
local endpoint, limit = ARGV[2], tonumber(ARGV[3])
for _ = 1, math.min(limit, redis.call('LLEN', history_key(endpoint))) do forget_oldest(endpoint) end
set_next_due(endpoint)
return redis.call('EXISTS', history_key(endpoint)) == 1 and 'more' or 'done'
