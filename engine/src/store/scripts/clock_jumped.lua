-- Freezes destructive jobs since the clock jumped, and tells of it once, whoever sees it first. KEYS prefix.
-- ARGV time, jump (the gate's document), alert ('' none). Reply: 'frozen' | 'stands' (it was known). Sent again it answers 'stands' (E10).
-- However many gates there are, this one is never refused.
local jump, alert = ARGV[2], ARGV[3]
if redis.call('HSETNX', prefix .. ':gates', 'clock', jump) == 0 then return 'stands' end
if alert ~= '' then
  redis.call('XADD', prefix .. ':alerts', 'MAXLEN', '~', 1000, '*', 'word', 'clock_jumped', 'at', string.format('%.0f', NOW), 'document', alert)
end
return 'frozen'
