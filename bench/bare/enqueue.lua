-- Stores a batch of jobs: their packed records, then their keys on the ready list.
-- KEYS: 1 the ready list.  ARGV: 1 how many jobs; then key and record of each; then each key once more.
local ready = KEYS[1]
local count = tonumber(ARGV[1])
redis.call('MSET', unpack(ARGV, 2, 1 + 2 * count))
return redis.call('RPUSH', ready, unpack(ARGV, 2 + 2 * count))
