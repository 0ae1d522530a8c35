-- Gives one of many processes its turn at something, until a time; who has the turn may take it again. KEYS prefix.
-- ARGV time, what, who, for how long in ms. Reply: 'yours' | 'taken'.
local what, who, ms = ARGV[2], ARGV[3], tonumber(ARGV[4])
local key = prefix .. ':turn:' .. what
local held = redis.call('GET', key)
local ends, holder = string.match(held or '', '^(%d+) (.*)$')
if holder and holder ~= who and tonumber(ends) > NOW then return 'taken' end
redis.call('SET', key, string.format('%.0f ', NOW + ms) .. who, 'PX', ms)
return 'yours'
