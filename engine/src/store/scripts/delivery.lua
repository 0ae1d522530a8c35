-- Part for the delivery scripts: keys, the next due time of an endpoint, the bounded history.
local function delivery_key(endpoint, id) return prefix .. ':delivery:' .. endpoint .. ':' .. id end
local function queue_key(endpoint) return prefix .. ':deliveries:' .. endpoint end
local function history_key(endpoint) return prefix .. ':delivered:' .. endpoint end
local function set_next_due(endpoint)
  local first = redis.call('ZRANGE', queue_key(endpoint), 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', prefix .. ':endpoints_due', first[2], endpoint)
  else
    redis.call('ZREM', prefix .. ':endpoints_due', endpoint)
  end
end
-- Forgets the endpoint's oldest delivery; whether it was still to be sent.
local function forget_oldest(endpoint)
  local old = redis.call('LPOP', history_key(endpoint))
  local key = delivery_key(endpoint, old)
  local pending = redis.call('HGET', key, 'state') == 'pending'
  if pending then redis.call('HINCRBY', COUNTERS, 'webhook_backlog', -1) end
  redis.call('ZREM', queue_key(endpoint), old)
  redis.call('UNLINK', key, key .. ':log')
  return pending
end
-- The history ends `keep` after its last change, or nobody would ever forget that of an endpoint that nobody names again.
-- Beyond `cap` the oldest goes, sent or not: a receiver that is away for days must not fill the memory of all (E7).
local function trim_history(endpoint, cap, keep)
  redis.call('PEXPIRE', history_key(endpoint), keep)
  for _ = 1, 4 do
    if redis.call('LLEN', history_key(endpoint)) <= cap then return end
    if forget_oldest(endpoint) then redis.call('HINCRBY', prefix .. ':deliveries_dropped', endpoint, 1) end
  end
end
