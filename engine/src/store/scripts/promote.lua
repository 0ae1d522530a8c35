-- Moves due jobs to ready or blocked. KEYS prefix. ARGV time, limit, no_later. Reply: how many moved.
-- By a time after `no_later` (ms, 0 not known) the clock may have jumped: nothing is moved until somebody has looked. Events: blocked scheduled.
local limit, no_later = tonumber(ARGV[2]), tonumber(ARGV[3])
if no_later > 0 and NOW > no_later then return 0 end
local moved = promote_due(limit)
flush()
return moved
