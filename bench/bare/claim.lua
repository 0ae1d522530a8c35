-- Takes up to a batch of ready jobs under a lease each and returns their keys and records.
-- KEYS: 1 the ready list, 2 the leases (score: deadline in ms).  ARGV: 1 how many at most, 2 the lease in ms.
local ready, leases = KEYS[1], KEYS[2]
local limit, lease_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local taken = redis.call('LPOP', ready, limit)
if not taken then return { {}, {} } end
local time = redis.call('TIME')
local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + lease_ms
local scored = {}
for i, key in ipairs(taken) do
  scored[2 * i - 1] = deadline
  scored[2 * i] = key
end
redis.call('ZADD', leases, unpack(scored))
return { taken, redis.call('MGET', unpack(taken)) }
