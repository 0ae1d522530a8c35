-- Ends a batch of leases and marks the records done; refuses the batch when a lease of it is gone.
-- KEYS: 1 the leases.  ARGV: 1 how many jobs; then key and done record of each; then each key once more.
local leases = KEYS[1]
local count = tonumber(ARGV[1])
if redis.call('ZREM', leases, unpack(ARGV, 2 + 2 * count)) ~= count then return redis.error_reply('a lease is gone') end
redis.call('MSET', unpack(ARGV, 2, 1 + 2 * count))
return count
