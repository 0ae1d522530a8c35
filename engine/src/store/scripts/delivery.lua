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
local function trim_history(endpoint, cap)
  for _ = 1, 2 do
    if redis.call('LLEN', history_key(endpoint)) <= cap then return end
    local old = redis.call('LINDEX', history_key(endpoint), 0)
    if redis.call('HGET', delivery_key(endpoint, old), 'state') == 'pending' then return end
    redis.call('LPOP', history_key(endpoint))
    redis.call('UNLINK', delivery_key(endpoint, old), delivery_key(endpoint, old) .. ':log')
  end
end
