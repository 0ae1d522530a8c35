-- Takes due deliveries of one endpoint under a lease: a sender that dies leaves them due again. KEYS prefix.
-- ARGV time, endpoint, limit, lease_ms. Reply: {id, body, attempt, first_at} each.
local endpoint, limit, lease = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local reply = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', queue_key(endpoint), '-inf', string.format('%.0f', NOW), 'LIMIT', 0, limit)) do
  local key = delivery_key(endpoint, id)
  local body = redis.call('HGET', key, 'body')
  if body then
    redis.call('ZADD', queue_key(endpoint), NOW + lease, id)
    local attempt = redis.call('HINCRBY', key, 'attempt', 1)
    reply[#reply + 1] = { id, body, attempt, redis.call('HGET', key, 'first_at') }
  else
    redis.call('ZREM', queue_key(endpoint), id)
  end
end
set_next_due(endpoint)
return reply
