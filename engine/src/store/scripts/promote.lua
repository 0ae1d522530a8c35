-- Moves due jobs to ready or blocked. KEYS prefix. ARGV time, limit. Reply: how many moved. Events: blocked scheduled.
local limit = tonumber(ARGV[2])
local moved = promote_due(limit)
flush()
return moved
