-- Cancels the children of one job that was cancelled or failed. KEYS prefix. ARGV time, note. Reply: how many such jobs are left.
-- A job has a bounded number of children (spawn). Sent again it goes on with the next (E10). Events: cancelled cancelling.
local note = ARGV[2]
local queue = prefix .. ':cascade'
local parent = redis.call('LINDEX', queue, 0)
if not parent then return 0 end
-- The oldest first: in what order they leave says who of those behind them goes on at once, and who at the next promotion.
local children = redis.call('HKEYS', children_key(parent))
table.sort(children)
for _, id in ipairs(children) do
  local r = load(id)
  local over = not r or has(r, CANCEL) or has(r, SEALED) or r.place == SUCCEEDED or r.place == CANCELLED or r.place == DEAD
  if not over then cancel_job(r, note) end
end
redis.call('LPOP', queue)
flush_cancel()
return redis.call('LLEN', queue)
