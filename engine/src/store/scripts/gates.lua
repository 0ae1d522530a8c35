-- Part for scripts that start or end attempts: what stands before a job (pause, kill switch, limit, freeze).
-- Gates lie in one small hash, read once a call and only when needed; see model/gate.rs for its fields.
local gates = nil
local function read_gates()
  if gates == nil then
    local flat = redis.call('HGETALL', prefix .. ':gates')
    gates = #flat > 0 and { freezes = {} } or false
    for i = 1, #flat, 2 do
      local field, value = flat[i], flat[i + 1]
      if string.sub(field, 1, 2) == 'f ' then
        local from, till, kind, tenant, resource = struct.unpack('<I6I6Bc0Bc0Bc0', value)
        gates.freezes[#gates.freezes + 1] = { hold = field, from = from, till = till, kind = kind, tenant = tenant, resource = resource }
      else
        gates[field] = value
      end
    end
  end
  return gates
end

local function running_of(queue, kind)
  local flat, sum = redis.call('HGETALL', COUNTERS), 0
  for i = 1, #flat, 2 do
    local q, k = string.match(flat[i], '^(.*)|(.*)|running$')
    if q and (q == queue or k == kind) then sum = sum + tonumber(flat[i + 1]) end
  end
  return sum
end

-- A limit by its hold: how many run under it, and when the next may start. One table a hold and call, shared by identities.
local limits = {}
local function limit_of(config, hold, running)
  local known = limits[hold]
  if not known then
    local max, rate, period = struct.unpack('<I4I4I6', config)
    known = { hold = hold, max = max, rate = rate, period = period, running = max > 0 and running() or 0,
      starts = prefix .. ':rate:' .. hold }
    limits[hold] = known
  end
  return known
end
local function queue_limit(queue)
  local config = read_gates() and gates['l q ' .. queue]
  return config and limit_of(config, 'l q ' .. queue, function() return running_of(queue, nil) end)
end
local function kind_limit(kind)
  local config = read_gates() and gates['l k ' .. kind]
  return config and limit_of(config, 'l k ' .. kind, function() return running_of(nil, kind) end)
end
local function key_limit(kind, key)
  local config = key ~= '' and read_gates() and gates['l x ' .. kind]
  local function running() return tonumber(redis.call('HGET', RUNNING_BY_KEY, kind .. ' ' .. key) or 0) end
  return config and limit_of(config, 'l x ' .. kind .. ' ' .. key, running)
end

-- Whether a start is of the last period. One that lies more than a period ahead was counted by a clock that was wrong.
local function is_recent(limit, at) return at + limit.period > NOW and at - limit.period <= NOW end

-- When a start is within the rate: now, or when the n-th last start leaves the period (never more than n in any period).
local function rate_opens(limit)
  if limit.rate == 0 or redis.call('LLEN', limit.starts) < limit.rate then return NOW end
  local at = tonumber(redis.call('LINDEX', limit.starts, -limit.rate))
  return is_recent(limit, at) and at + limit.period or NOW
end
local function count_start(limit)
  limit.running = limit.running + 1
  if limit.rate == 0 then return end
  redis.call('RPUSH', limit.starts, string.format('%.0f', NOW))
  redis.call('LTRIM', limit.starts, -limit.rate, -1)
  redis.call('PEXPIRE', limit.starts, limit.period + 60000)
  if redis.call('EXISTS', waiters_key(limit.hold)) == 1 then open_hold(limit.hold, rate_opens(limit)) end
end
-- How many may start under a limit now.
local function room_under(limit)
  local room = limit.max > 0 and math.max(limit.max - limit.running, 0) or NEVER
  if limit.rate == 0 then return room end
  -- A rate that was lowered has more starts behind it than it looks at.
  local free = limit.rate - math.min(limit.rate, redis.call('LLEN', limit.starts))
  for _, at in ipairs(redis.call('LRANGE', limit.starts, -limit.rate, -1)) do
    if is_recent(limit, tonumber(at)) then break end
    free = free + 1
  end
  return math.min(room, math.max(free, 0))
end

local function touches(freeze, who)
  if freeze.kind ~= '' and freeze.kind ~= who.kind then return false end
  if freeze.tenant ~= '' and freeze.tenant ~= who.tenant then return false end
  if freeze.resource == '' then return true end
  for _, name in ipairs(resources_of(who)) do
    if name == freeze.resource then return true end
  end
  return false
end

-- The freeze that ends last among those that a start now would run into, if the kind takes as long as it mostly does.
local function freeze_for(who)
  local worst, lasts = nil, tonumber(gates['d ' .. who.kind] or 0)
  for _, freeze in ipairs(gates.freezes) do
    local hit = NOW >= freeze.from - lasts and NOW < freeze.till and touches(freeze, who)
    if hit and (not worst or freeze.till > worst.till) then worst = freeze end
  end
  return worst
end

-- What stands before jobs of one identity; false when nothing does. Limits of the queue are met where jobs are taken.
local function gates_of(who)
  if who.gates == nil then
    local found = read_gates() and { paused = gates['k ' .. who.kind], clock = gates.clock, freeze = freeze_for(who) }
    if found then
      found[1] = kind_limit(who.kind) or nil
      found[#found + 1] = key_limit(who.kind, who.key) or nil
    end
    who.gates = found and next(found) ~= nil and found or false
  end
  return who.gates
end

-- Why a ready job may not start (reason, hold, when it may), or nil: then its start is counted.
local function forbid(who, flags)
  local found = gates_of(who)
  if not found then return nil end
  if found.paused then return KIND_PAUSED, 'k ' .. who.kind end
  if found.clock and bit.band(flags, DESTRUCTIVE) ~= 0 then return CLOCK_JUMPED, 'clock' end
  local freeze = found.freeze
  if freeze then return NOW < freeze.from and NO_FIT or FROZEN, freeze.hold, freeze.till end
  for _, limit in ipairs(found) do
    if limit.max > 0 and limit.running >= limit.max then open_hold(limit.hold, NEVER); return LIMIT_REACHED, limit.hold end
    local opens = rate_opens(limit)
    if opens > NOW then open_hold(limit.hold, opens); return RATE_REACHED, limit.hold end
  end
  for _, limit in ipairs(found) do count_start(limit) end
end

-- A job that ran under limits has left: who waits for its place may go.
local function free_place(who)
  local found = gates_of(who)
  for _, limit in ipairs(found or {}) do
    if redis.call('EXISTS', waiters_key(limit.hold)) == 1 then open_hold(limit.hold, NOW) end
  end
  if queue_limit(who.queue) then woken[who.queue] = true end
end
