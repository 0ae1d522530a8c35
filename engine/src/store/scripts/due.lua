-- Part for scripts that promote, behind gates.lua: due jobs become ready or blocked, opened holds let their waiters go.
-- At most `limit` jobs a call, of all sorts together, and some that share a resource with the last (E6).
-- Lets jobs of a place go on; a blocked one whose planned time is still to come goes back to it. An entry that is not of such a job is dropped.
-- Blocked ones take their resources in the order of their planned times.
local function go_on(ids, place, drop)
  load_all(ids)
  local function planned(id) return records[id] and records[id].run_at or 0 end
  if place == BLOCKED then table.sort(ids, function(a, b) return planned(a) < planned(b) or (planned(a) == planned(b) and a < b) end) end
  for _, id in ipairs(ids) do
    local r = records[id]
    if r and r.place == place then
      leave(r)
      if place == BLOCKED and is_early(r) then put_back(r) else enter_due(r) end
    else
      drop(id)
    end
  end
  return #ids
end

-- Moves what is due of a place, behind the `seen` first, which this call had before; how many.
local function promote_from(place, seen, many)
  if many <= 0 then return 0 end
  local ids = redis.call('ZRANGEBYSCORE', INDEX[place], '-inf', string.format('%.0f', NOW), 'LIMIT', seen, many)
  return go_on(ids, place, function(id) gather(drops, INDEX[place], id) end)
end

-- The limit that a hold is of; nil for other holds, and when the limit stands no more.
local function limit_behind(hold)
  local sort, rest = string.match(hold, '^l (%a) (.*)$')
  if sort == 'k' then return kind_limit(rest) or nil end
  local kind, key = string.match(rest or '', '^(%S+) (.*)$')
  return sort == 'x' and key_limit(kind, key) or nil
end

-- A changed limit of each key of a kind opens the holds of all its keys; they stand among the openings while anybody waits.
-- A part of the openings at a time: the last one that stays where it is says where to go on.
local function open_keys(kind)
  local OPENED = 1000
  local start, cursor = 'l x ' .. kind .. ' ', prefix .. ':opened:l x ' .. kind
  local last = redis.call('GET', cursor)
  local rank = last and redis.call('ZRANK', OPENINGS, last)
  local from = rank and rank + 1 or redis.call('ZCOUNT', OPENINGS, '-inf', string.format('%.0f', NOW))
  local holds = redis.call('ZRANGE', OPENINGS, from, from + OPENED - 1)
  for _, hold in ipairs(holds) do
    if string.sub(hold, 1, #start) == start then open_hold(hold, NOW) else last = hold end
  end
  if #holds < OPENED then redis.call('DEL', cursor); return end
  if last then redis.call('SET', cursor, last, 'PX', 3600000) end
  open_hold(start .. '*', NOW)
end

local function release(hold, many)
  local ids = many > 0 and redis.call('ZRANGE', waiters_key(hold), 0, many - 1) or {}
  return go_on(ids, BLOCKED, function(id) redis.call('ZREM', waiters_key(hold), id) end)
end

-- Lets as many waiters of an open hold go as may, at most `most`; how many. Should those not start after all (cancelled,
-- paused), it opens again soon.
local function let_go(hold, most)
  redis.call('ZREM', OPENINGS, hold)
  local resource, of_keys = string.match(hold, '^r (.*)$'), string.match(hold, '^l x (%S+) %*$')
  if resource then return serve(resource) end
  if of_keys then open_keys(of_keys); return 0 end
  local behind = limit_behind(hold)
  local room = behind and room_under(behind) or NEVER
  local moved = release(hold, math.min(most, room))
  if redis.call('EXISTS', waiters_key(hold)) == 0 then return moved end
  if not behind then
    open_hold(hold, NOW)
  elseif room > 0 then
    open_hold(hold, NOW + (room > most and 100 or 1000))
  else
    local full = behind.max > 0 and behind.running >= behind.max
    open_hold(hold, full and NEVER or math.max(rate_opens(behind), NOW + 1))
  end
  return moved
end

-- Each place may have a quarter of the limit, holds that open the rest, and the places what is left then: none waits for
-- good while others are full.
local function promote_due(limit)
  local left, share, moved = limit, math.ceil(limit / 4), {}
  local places = { SCHEDULED, BLOCKED, WAITING }
  for _, place in ipairs(places) do
    moved[place] = promote_from(place, 0, math.min(share, left))
    left = left - moved[place]
  end
  for _, hold in ipairs(redis.call('ZRANGEBYSCORE', OPENINGS, '-inf', string.format('%.0f', NOW), 'LIMIT', 0, 100)) do
    if left <= 0 then break end
    left = left - let_go(hold, left)
  end
  for _, place in ipairs(places) do
    if moved[place] == share then left = left - promote_from(place, share, left) end
  end
  return limit - left
end

-- When something is due next: a job's time, a deadline, an opening; '' when nothing is.
local function next_due()
  local first = NEVER
  for _, key in ipairs({ INDEX[SCHEDULED], INDEX[BLOCKED], INDEX[WAITING], OPENINGS }) do
    first = math.min(first, tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] or NEVER))
  end
  return first < NEVER and string.format('%.0f', first) or ''
end
