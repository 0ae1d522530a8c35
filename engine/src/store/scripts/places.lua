-- Shared by every script, behind prelude.lua: places. What moves is gathered (lists, rings, holds, counters) and written by flush().
local live_by = 0
local function count_place(r, by)
  local counts = r.who.counts
  counts[r.place] = (counts[r.place] or 0) + by
  if r.place < SUCCEEDED or r.place == UNKNOWN then live_by = live_by + by end
end

-- For the plain ways of claim and settle, which make no table of a record.
local function count_move(who, from, to)
  local counts = who.counts
  counts[from], counts[to] = (counts[from] or 0) - 1, (counts[to] or 0) + 1
end

local scores, drops, tails, fronts, rings, woken, earliest = {}, {}, {}, {}, {}, {}, nil
local function list(into, key)
  local t = into[key]
  if not t then t = {}; into[key] = t end
  return t
end
local function gather(into, key, first, second)
  local t = list(into, key)
  t[#t + 1] = first
  if second then t[#t + 1] = second end
end
local function ready_name(who, priority) return priority .. ':' .. who.queue .. '|' .. who.tenant end
local function ready_key(who, priority)
  local key = who.ready[priority]
  if not key then key = prefix .. ':ready:' .. ready_name(who, priority); who.ready[priority] = key end
  return key
end
-- Tenants with ready jobs, in the order in which claims go round them; who comes anew stands before those just served.
local function ring_key(queue, priority) return prefix .. ':ring:' .. priority .. ':' .. queue end
local function into_ring(who, priority)
  local key = who.rings[priority]
  if not key then key = ring_key(who.queue, priority); who.rings[priority] = key end
  list(rings, key)[who.tenant] = true
  woken[who.queue] = true
end
local function lock_key(resource) return prefix .. ':lock:' .. resource end
local function waiters_key(hold) return prefix .. ':waiters:' .. hold end
local function children_key(id) return prefix .. ':children:' .. id end
local function ended_key(who, place)
  local key = who.ended[place]
  if not key then key = prefix .. ':finished:' .. WORDS[place] .. ':' .. who.kind; who.ended[place] = key end
  return key
end

-- A tenant's jobs in the order in which they were taken in: lists of about CHUNK ids. A record says in which list its id is.
local CHUNK = 1000
local function tenant_chunk_key(tenant, chunk) return prefix .. ':tenant_jobs:' .. chunk .. ':' .. tenant end
local lines = {}
local function line_of(who)
  local line = lines[who.tenant]
  if not line then
    local chunk = math.floor(tonumber(redis.call('HGET', who.tenant_key, 'total') or 0) / CHUNK)
    line = { key = who.tenant_key, chunk = chunk, list = list(tails, tenant_chunk_key(who.tenant, chunk)), added = 0 }
    lines[who.tenant] = line
  end
  return line
end

-- A hold says what a blocked or waiting job waits for; a blocked one is among the hold's waiters.
local function hold_of(id) return redis.call('HGET', HOLDS, id) end
local function set_hold(id, hold) redis.call('HSET', HOLDS, id, hold) end
local function drop_hold(id) redis.call('HDEL', HOLDS, id) end
-- Says from when the waiters of a hold may go; promote lets them.
local function open_hold(hold, at)
  redis.call('ZADD', OPENINGS, 'LT', at, hold)
  if at <= NOW then woken['*'] = true elseif at < NEVER and (earliest == nil or at < earliest) then earliest = at end
end

-- Takes the job out of its place. A ready job's entry in a long list is left behind: a claim skips ids that are not ready.
local function leave(r)
  count_place(r, -1)
  if r.place == BLOCKED then
    local hold = hold_of(r.id)
    if hold then
      redis.call('ZREM', waiters_key(hold), r.id)
      -- An opening that is left for nobody would lie there for ever.
      if redis.call('EXISTS', waiters_key(hold)) == 0 then redis.call('ZREM', OPENINGS, hold) end
    end
    drop_hold(r.id)
  elseif r.place == WAITING then
    drop_hold(r.id)
  elseif r.place == READY then
    local key = ready_key(r.who, r.priority)
    if redis.call('LLEN', key) <= 1000 then redis.call('LREM', key, 1, r.id) end
  end
end

-- Takes a job out of a line that it has not come to the end of: those behind it may fit beside who holds the resource.
local function step_out(r)
  local hold = r.place == BLOCKED and hold_of(r.id)
  leave(r)
  if hold and string.sub(hold, 1, 2) == 'r ' and redis.call('EXISTS', waiters_key(hold)) == 1 then open_hold(hold, NOW) end
end

-- The index of a place is written by flush(), once, however often the job moved until then.
local function enter(r, place, score, front)
  r.place, r.dirty, r.moved, r.score = place, true, true, score or r.run_at
  count_place(r, 1)
  if place == READY then
    gather(front and fronts or tails, ready_key(r.who, r.priority), r.id)
    into_ring(r.who, r.priority)
  elseif INDEX[place] then
    if place ~= RUNNING and r.score < NEVER and (earliest == nil or r.score < earliest) then earliest = r.score end
  else
    r.finished_at = NOW
    gather(tails, ended_key(r.who, place), r.id)
  end
end

-- Sets a due job aside until its hold opens, or until `again_at`.
local function block(r, reason, hold, again_at, note)
  r.reason = reason
  enter(r, BLOCKED, again_at or NEVER)
  set_hold(r.id, hold)
  redis.call('ZADD', waiters_key(hold), r.run_at, r.id)
  event(r, 'blocked', note or '{"reason":"' .. REASON[reason] .. '"}')
end

local function next_fence(many)
  local key = prefix .. ':fence'
  local last = tonumber(redis.call('GET', key) or 0)
  if last < NOW then last = NOW end
  if many > 0 then redis.call('SET', key, string.format('%.0f', last + many)) end
  return last
end

local function flush_counts()
  local sums = {}
  for _, who in pairs(identities) do
    for place, by in pairs(who.counts) do
      local field = who.queue .. '|' .. who.kind .. '|' .. WORDS[place]
      sums[field] = (sums[field] or 0) + by
      if place == RUNNING and who.key ~= '' and by ~= 0 then
        local running = who.kind .. ' ' .. who.key
        if redis.call('HINCRBY', RUNNING_BY_KEY, running, by) == 0 then redis.call('HDEL', RUNNING_BY_KEY, running) end
      end
    end
    who.counts = {}
  end
  for field, by in pairs(sums) do
    if by ~= 0 then redis.call('HINCRBY', COUNTERS, field, by) end
  end
  if live_by ~= 0 then redis.call('HINCRBY', COUNTERS, 'live', live_by) end
end

local function flush_lines()
  for _, line in pairs(lines) do
    if line.added > 0 then redis.call('HINCRBY', line.key, 'total', line.added) end
  end
  lines = {}
end

-- Writes entries (in pairs or one by one) to a key. unpack() takes less than 8,000 at a time, and a flush that fails halfway
-- would leave jobs in no list at all.
local function write(verb, key, entries, how)
  local PART = 4000
  for from = 1, #entries, PART do
    local till = math.min(from + PART - 1, #entries)
    if how then redis.call(verb, key, how, unpack(entries, from, till)) else redis.call(verb, key, unpack(entries, from, till)) end
  end
end

local function flush_rings()
  for key, tenants in pairs(rings) do
    local entries = {}
    for tenant in pairs(tenants) do
      entries[#entries + 1] = NOW
      entries[#entries + 1] = tenant
    end
    write('ZADD', key, entries, 'NX')
  end
end

local function flush_index(r)
  local index = INDEX[r.place]
  if r.indexed and r.indexed ~= index then gather(drops, r.indexed, r.id) end
  if index then gather(scores, index, r.score, r.id) end
  r.indexed, r.moved = index, false
end

-- Forgets what was gathered.
local function discard()
  scores, drops, tails, fronts, rings, lines, woken, changed, live_by, earliest = {}, {}, {}, {}, {}, {}, {}, {}, 0, nil
  for _, who in pairs(identities) do who.counts = {} end
end

local function flush()
  for id, r in pairs(records) do
    if r and r.moved then flush_index(r) end
    if r and r.dirty then
      if r.rewritten then redis.call('SET', record_prefix .. id, pack(r)) else redis.call('SETRANGE', record_prefix .. id, 0, pack_hot(r)) end
      r.dirty = false
    end
  end
  for key, ids in pairs(drops) do write('ZREM', key, ids) end
  for key, pairs_ in pairs(scores) do write('ZADD', key, pairs_) end
  for key, ids in pairs(tails) do write('RPUSH', key, ids) end
  for key, ids in pairs(fronts) do write('LPUSH', key, ids) end
  flush_lines()
  flush_rings()
  flush_counts()
  if #changed > 0 then redis.call('PUBLISH', prefix .. ':changed', table.concat(changed, ' ')) end
  for queue in pairs(woken) do redis.call('PUBLISH', prefix .. ':wake', queue) end
  if earliest then redis.call('PUBLISH', prefix .. ':wake', string.format('@%.0f', earliest)) end
  discard()
end
