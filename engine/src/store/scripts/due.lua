-- Second part of the prelude for scripts that promote: due jobs become ready or blocked, at most `limit` a call (E6).
local function promote_due(limit)
  local ids = redis.call('ZRANGEBYSCORE', prefix .. ':scheduled', '-inf', string.format('%.0f', NOW), 'LIMIT', 0, limit)
  load_all(ids)
  local moved = 0
  for _, id in ipairs(ids) do
    local r = records[id]
    if r and r.place == SCHEDULED then
      leave(r)
      enter_due(r)
      moved = moved + 1
    else
      gather(drops, prefix .. ':scheduled', id)
    end
  end
  return moved
end
