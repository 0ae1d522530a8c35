-- Turns an outbox entry into deliveries, once: the second caller finds the entry gone. KEYS prefix.
-- ARGV time, entry, history_cap, keep_ms, then per delivery: endpoint, id, body. Reply: 1 routed | 0 was gone.
local entry, cap, keep = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('XDEL', prefix .. ':outbox', entry) == 0 then return 0 end
for i = 5, #ARGV, 3 do
  local endpoint, id, body = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  redis.call('HSET', delivery_key(endpoint, id), 'body', body, 'attempt', 0, 'first_at', string.format('%.0f', NOW), 'state', 'pending')
  redis.call('RPUSH', history_key(endpoint), id)
  redis.call('ZADD', queue_key(endpoint), NOW, id)
  redis.call('HINCRBY', COUNTERS, 'webhook_backlog', 1)
  trim_history(endpoint, cap, keep)
  set_next_due(endpoint)
end
redis.call('PUBLISH', prefix .. ':wake', '!deliveries')
return 1
