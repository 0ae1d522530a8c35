-- Writes a gate (model/gate.rs says what its fields hold). KEYS prefix.
-- ARGV time, field, value, expected ('*' whatever is there, '' nothing, else this value), most.
-- Reply: 'set' | 'changed' (another value is there) | 'full' (there are `most` gates already, each claim reads them all).
-- A gate that changed lets its waiters look again: those of a limit by key wait for each key, which `*` stands for.
local field, value, expected, most = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local key = prefix .. ':gates'
local held = redis.call('HGET', key, field)
if held == value then return 'set' end
if expected ~= '*' and (held or '') ~= expected then return 'changed' end
if not held and redis.call('HLEN', key) >= most then return 'full' end
redis.call('HSET', key, field, value)
if held then open_hold(string.find(field, '^l x ') and field .. ' *' or field, NOW) end
redis.call('DEL', prefix .. ':opened:' .. field)
flush()
return 'set'
