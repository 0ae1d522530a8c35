-- Part for scripts that promote, behind gates.lua: due jobs become ready or blocked, opened holds let their waiters go.
-- At most `limit` jobs of each sort a call (E6).
-- Lets jobs of a place go on; a blocked one whose planned time is still to come goes back to it. An entry that is not of such a job is dropped.
local function go_on(ids, place, drop)
  load_all(ids)
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

local function promote_from(place, limit)
  local ids = redis.call('ZRANGEBYSCORE', INDEX[place], '-inf', string.format('%.0f', NOW), 'LIMIT', 0, limit)
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
local function open_keys(kind)
  local start = 'l x ' .. kind .. ' '
  for _, hold in ipairs(redis.call('ZRANGEBYSCORE', OPENINGS, NOW + 1, 'inf', 'LIMIT', 0, 5000)) do
    if string.sub(hold, 1, #start) == start then open_hold(hold, NOW) end
  end
end

local function release(hold, many)
  local ids = many > 0 and redis.call('ZRANGE', waiters_key(hold), 0, many - 1) or {}
  return go_on(ids, BLOCKED, function(id) redis.call('ZREM', waiters_key(hold), id) end)
end

-- Lets as many waiters of an open hold go as may. Should those not start after all (cancelled, paused), it opens again soon.
local function let_go(hold, limit)
  redis.call('ZREM', OPENINGS, hold)
  local resource, of_keys = string.match(hold, '^r (.*)$'), string.match(hold, '^l x (%S+) %*$')
  if resource then serve(resource); return 0 end
  if of_keys then open_keys(of_keys); return 0 end
  local behind = limit_behind(hold)
  local room = math.min(limit, behind and room_under(behind) or limit)
  local moved = release(hold, room)
  if redis.call('EXISTS', waiters_key(hold)) == 0 then return moved end
  if not behind then
    open_hold(hold, NOW)
  elseif room > 0 then
    open_hold(hold, NOW + 1000)
  else
    local full = behind.max > 0 and behind.running >= behind.max
    open_hold(hold, full and NEVER or math.max(rate_opens(behind), NOW + 1))
  end
  return moved
end

local function promote_due(limit)
  local moved = 0
  for _, place in ipairs({ SCHEDULED, BLOCKED, WAITING }) do moved = moved + promote_from(place, limit) end
  for _, hold in ipairs(redis.call('ZRANGEBYSCORE', OPENINGS, '-inf', string.format('%.0f', NOW), 'LIMIT', 0, 10)) do
    moved = moved + let_go(hold, limit)
  end
  return moved
end

-- When something is due next: a job's time, a deadline, an opening; '' when nothing is.
local function next_due()
  local first = NEVER
  for _, key in ipairs({ INDEX[SCHEDULED], INDEX[BLOCKED], INDEX[WAITING], OPENINGS }) do
    first = math.min(first, tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] or NEVER))
  end
  return first < NEVER and string.format('%.0f', first) or ''
end
