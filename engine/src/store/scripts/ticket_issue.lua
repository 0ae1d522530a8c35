-- Issues a ticket: a one-use code, known by its digest. KEYS prefix.
-- ARGV time, id, digest, binding, tries, ttl_ms, gap_ms. Reply {word, ms}: issued expires | wait ms (the last for this binding is too recent).
local id, digest, binding, tries, ttl, gap = ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local gate, key = prefix .. ':ticketgate:' .. binding, prefix .. ':ticket:' .. id
if redis.call('EXISTS', key) == 1 then return { 'issued', redis.call('HGET', key, 'expires') } end
local open_at = tonumber(redis.call('GET', gate) or 0)
if open_at > NOW then return { 'wait', string.format('%.0f', open_at - NOW) } end
local expires = string.format('%.0f', NOW + ttl)
redis.call('SET', gate, string.format('%.0f', NOW + gap), 'PX', gap + 60000)
redis.call('HSET', key, 'digest', digest, 'binding', binding, 'tries', tries, 'expires', expires)
redis.call('PEXPIRE', key, ttl + 86400000)
return { 'issued', expires }
