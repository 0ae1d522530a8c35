-- Shared by every script: the clock, the keys, the record, the places. Prepended at load time.
-- KEYS[1] is the shard's prefix ({lh:<n>} behind a namespace); every key is built from it, so all are in one slot.
-- ARGV[1] is the time in ms (tests give it), 0 for the store's own clock.
-- A change is gathered while the script decides and written by flush(): nothing is written before all is decided,
-- except locks, holds, allowances and tickets, whose answer the decision needs.
local prefix = KEYS[1]
local given_time = tonumber(ARGV[1])
local function now()
  if given_time > 0 then return given_time end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local NOW = now()
local SCHEDULED, BLOCKED, READY, RUNNING, WAITING, SUCCEEDED, CANCELLED, DEAD, UNKNOWN = 0, 1, 2, 3, 4, 5, 6, 7, 8
local WORDS = { [0] = 'scheduled', 'blocked', 'ready', 'running', 'waiting', 'succeeded', 'cancelled', 'dead', 'unknown' }
local EVENT = { accepted = 1, scheduled = 2, blocked = 3, started = 4, progress = 5, retrying = 6, waiting = 7, succeeded = 8,
  failed = 9, cancelled = 10, unknown = 11, edited = 12, rescued = 13, released = 14, cancelling = 15, revived = 16, resolved = 17,
  signalled = 18, undoing = 19 }
local CANCEL, JOURNAL, ONCE_OPEN, LOCKED, SEALED, NOTIFY, EXTRAS, OUTCOME = 1, 2, 4, 8, 16, 32, 64, 128
local UNDO, UNDOING, DESTRUCTIVE, FAMILY = 256, 512, 1024, 2048
-- Why a job is blocked, or (QUIET_END) that its end is told by the hot fields alone.
local RESOURCE_HELD, QUIET_END, KIND_PAUSED, FROZEN, LIMIT_REACHED, RATE_REACHED, NO_FIT, KIND_UNKNOWN, CODE_CHANGED, CLOCK_JUMPED =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local REASON = { 'resource_held', '', 'kind_paused', 'frozen', 'limit_reached', 'rate_reached', 'no_fit', 'kind_unknown',
  'code_changed', 'clock_jumped' }
-- A time that does not come by itself.
local NEVER = 9e15
local EVENT_CAP = 100
local COUNTERS, RUNNING_BY_KEY, HOLDS, OPENINGS = prefix .. ':counters', prefix .. ':running', prefix .. ':holds', prefix .. ':openings'
-- A record is hot fields (what each claim and settlement changes), cold fields, then the body. Hot ones alone are written
-- back with one SETRANGE; a Lua string of a whole record costs more than all else a claim does.
-- From CHANGING on lies what claims and settlements change: they write no more than that.
local HOT, HOT_BYTES = '<BI2I2BI6I6I4BBI2I6I4I4I6I6', 52
local CHANGING, CLAIMED, ENDED, CLAIMED_BYTES = 23, '<BBI2I6I4I4I6', '<BBI2I6I4I4I6I6', 24
local COLD, HEADER_BYTES = '<I2I4I4BI4I4I4I2I2', 79

local INDEX = { [SCHEDULED] = prefix .. ':scheduled', [BLOCKED] = prefix .. ':blocked', [RUNNING] = prefix .. ':leases',
  [WAITING] = prefix .. ':waiting', [UNKNOWN] = prefix .. ':unknown' }

local function has(r, flag) return bit.band(r.flags, flag) ~= 0 end
local function set(r, flag) r.flags = bit.bor(r.flags, flag) end
local function clear(r, flag) r.flags = bit.band(r.flags, bit.bnot(flag)) end
local record_prefix = prefix .. ':j:'
local function record_key(id) return record_prefix .. id end

local identities = {}
local function identity_of(raw)
  local known = identities[raw]
  if not known then
    local kind, tenant, queue, resource, allowance, key, parent = struct.unpack('Bc0Bc0Bc0Bc0Bc0Bc0Bc0', raw)
    known = { kind = kind, tenant = tenant, queue = queue, resource = resource, allowance = allowance, key = key, parent = parent,
      counts = {}, ready = {}, rings = {}, ended = {}, tenant_key = prefix .. ':tenant:' .. tenant }
    identities[raw] = known
  end
  return known
end
local function identity(bytes, length)
  return identity_of(string.sub(bytes, HEADER_BYTES + 1, HEADER_BYTES + length))
end

local function open(id, bytes)
  local version, flags, identity_len, priority, created_at, run_at, chunk, reason, place, attempt, fence, seq, started_seq,
    started_at, finished_at = struct.unpack(HOT, bytes)
  return { id = id, bytes = bytes, version = version, chunk = chunk, place = place, flags = flags, priority = priority, reason = reason,
    attempt = attempt, created_at = created_at, run_at = run_at, started_at = started_at, finished_at = finished_at, fence = fence,
    seq = seq, started_seq = started_seq, identity_len = identity_len, who = identity(bytes, identity_len), dirty = false,
    indexed = INDEX[place] }
end

local function pack_hot(r)
  return struct.pack(HOT, r.version, r.flags, r.identity_len, r.priority, r.created_at, r.run_at, r.chunk, r.reason, r.place,
    r.attempt, r.fence, r.seq, r.started_seq, r.started_at, r.finished_at)
end

-- Reads the cold fields and the body; who changes them sets r.rewritten.
local function warm(r)
  if r.body then return end
  r.max_attempts, r.retry_base, r.retry_cap, r.jitter, r.meta_len, r.args_len, r.result_len, r.error_len, r.events =
    struct.unpack(COLD, r.bytes, HOT_BYTES + 1)
  r.body = string.sub(r.bytes, HEADER_BYTES + 1)
end

local function pack(r)
  return pack_hot(r) .. struct.pack(COLD, r.max_attempts, r.retry_base, r.retry_cap, r.jitter, r.meta_len, r.args_len, r.result_len,
    r.error_len, r.events) .. r.body
end

local records = {}
local function load(id)
  local r = records[id]
  if r == nil then
    local bytes = redis.call('GET', record_key(id))
    r = bytes and open(id, bytes) or false
    records[id] = r
  end
  return r
end

local function load_all(ids)
  if #ids == 0 then return end
  local keys = {}
  for i = 1, #ids do keys[i] = record_prefix .. ids[i] end
  local found = redis.call('MGET', unpack(keys))
  for i = 1, #ids do
    local id = ids[i]
    if records[id] == nil then records[id] = found[i] and open(id, found[i]) or false end
  end
end

local function meta_of(r)
  warm(r)
  return string.sub(r.body, r.identity_len + 1, r.identity_len + r.meta_len)
end

local function put_outcome(r, result, failure)
  if result == '' and failure == '' and not has(r, OUTCOME) then return end
  warm(r)
  local fixed = r.identity_len + r.meta_len + r.args_len
  local tail = string.sub(r.body, fixed + r.result_len + r.error_len + 1)
  r.body = string.sub(r.body, 1, fixed) .. result .. failure .. tail
  r.result_len, r.error_len, r.rewritten = #result, #failure, true
  set(r, OUTCOME)
end

local function drop_old_events(r)
  local start = r.identity_len + r.meta_len + r.args_len + r.result_len + r.error_len
  local at, gone = start + 1, EVENT_CAP / 2
  for _ = 1, gone do at = at + 15 + struct.unpack('<I2', r.body, at + 13) end
  r.body = string.sub(r.body, 1, start) .. string.sub(r.body, at)
  r.events = r.events - gone
end

local listening = nil
local function is_listening()
  if listening == nil then listening = redis.call('EXISTS', prefix .. ':listening') == 1 end
  return listening
end
local function wanted(r) return has(r, NOTIFY) or is_listening() end

local changed = {}
-- Tells those who listen of a change (webhook outbox, watchers). History knows `accepted`, the last `started` and a quiet
-- end by the hot fields alone; keep() writes the others down.
local function tell(r, word, note)
  r.seq, r.dirty = r.seq + 1, true
  if wanted(r) then
    local w, meta = r.who, meta_of(r)
    redis.call('XADD', prefix .. ':outbox', '*', 'e', struct.pack('<BI6I4BI2Bc0Bc0Bc0I4c0I2c0', EVENT[word], NOW, r.seq, r.place,
      r.attempt, #r.id, r.id, #w.kind, w.kind, #w.tenant, w.tenant, #meta, meta, #note, note))
  end
  changed[#changed + 1] = r.id
end

local function write_down(r, word, seq, at, note)
  warm(r)
  if r.events >= EVENT_CAP then drop_old_events(r) end
  r.body = r.body .. struct.pack('<BI4I6I2I2', EVENT[word], seq, at, r.attempt, #note) .. note
  r.events, r.rewritten = r.events + 1, true
end

local function write_down_start(r)
  if r.started_seq > 0 then
    write_down(r, 'started', r.started_seq, r.started_at, '')
    r.started_seq = 0
  end
end

local function event(r, word, note)
  tell(r, word, note or '')
  write_down_start(r)
  write_down(r, word, r.seq, NOW, note or '')
end

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
    if hold then redis.call('ZREM', waiters_key(hold), r.id) end
    drop_hold(r.id)
  elseif r.place == WAITING then
    drop_hold(r.id)
  elseif r.place == READY then
    local key = ready_key(r.who, r.priority)
    if redis.call('LLEN', key) <= 1000 then redis.call('LREM', key, 1, r.id) end
  end
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

-- Resources are named in one global order; `~` before a name says that others may share it.
local function resources_of(who)
  if not who.resources then
    who.resources, who.shares = {}, {}
    for entry in string.gmatch(who.resource, '[^\n]+') do
      local name = string.match(entry, '^~(.*)$')
      who.resources[#who.resources + 1] = name or entry
      who.shares[name or entry] = name ~= nil
    end
  end
  return who.resources
end

local function take_lock(name, shared, id)
  local key = lock_key(name)
  local holders = redis.call('HLEN', key)
  local passable = holders == 0 or (shared and (holders > 1 or redis.call('HVALS', key)[1] == 's'))
  if passable then redis.call('HSET', key, id, shared and 's' or 'x') end
  return passable
end

-- Takes what is missing of the job's resources, in their order; the name of the one that it must wait for, or nil.
-- Nobody goes before those who wait already.
local function acquire(r)
  for _, name in ipairs(resources_of(r.who)) do
    if redis.call('HEXISTS', lock_key(name), r.id) == 0 then
      if redis.call('EXISTS', waiters_key('r ' .. name)) == 1 then return name end
      if not take_lock(name, r.who.shares[name], r.id) then return name end
    end
    set(r, LOCKED)
  end
end

-- A due job becomes ready, or blocked while others hold what it needs (ENG-09).
local function enter_due(r, front)
  local missing = r.who.resource ~= '' and acquire(r)
  if missing then return block(r, RESOURCE_HELD, 'r ' .. missing) end
  r.reason = 0
  enter(r, READY, nil, front)
end

-- Lets go on those who wait for a resource, in their order, as far as they fit beside those who hold it.
local function serve(name)
  local waiters = waiters_key('r ' .. name)
  for _ = 1, 50 do
    local id = redis.call('ZRANGE', waiters, 0, 0)[1]
    local heir = id and load(id)
    if not heir then return end
    local shared = resources_of(heir.who) and heir.who.shares[name]
    if not take_lock(name, shared, id) then return end
    set(heir, LOCKED)
    leave(heir)
    enter_due(heir)
    if not shared then return end
  end
  open_hold('r ' .. name, NOW)
end

-- Lets go of all that the job holds.
local function unlock(r)
  if not has(r, LOCKED) then return end
  clear(r, LOCKED)
  r.dirty = true
  for _, name in ipairs(resources_of(r.who)) do
    if redis.call('HDEL', lock_key(name), r.id) == 1 then serve(name) end
  end
end

-- A suspended job goes on; one that runs and was about to be suspended will find its hold gone.
local function wake(r)
  if r.place == WAITING then
    leave(r)
    enter_due(r)
  elseif r.place == RUNNING then
    drop_hold(r.id)
  end
end

local function tell_parent(r)
  local key = children_key(r.who.parent)
  local mark = redis.call('HGET', key, r.id)
  if not mark then return end
  redis.call('HSET', key, r.id, WORDS[r.place])
  if mark ~= 'waited' then return end
  local left = redis.call('HINCRBY', key, '#left', -1)
  local spoiled = r.place ~= SUCCEEDED and redis.call('HEXISTS', key, '#fail') == 1
  local parent = (left <= 0 or spoiled) and load(r.who.parent)
  if parent then wake(parent) end
end

-- Ends a job: a word with nothing to note is known from the hot fields. Its parent hears of it; the children of a job that
-- did not succeed are cancelled by cascade.
local function finish(r, place, word, note)
  enter(r, place)
  tell(r, word, note)
  if note == '' and place ~= UNKNOWN then
    r.reason = QUIET_END
  else
    write_down_start(r)
    write_down(r, word, r.seq, NOW, note)
  end
  if place == UNKNOWN then return end
  if has(r, JOURNAL) then drop_hold(r.id) end
  if has(r, FAMILY) and place ~= SUCCEEDED then redis.call('RPUSH', prefix .. ':cascade', r.id) end
  if r.who.parent ~= '' then tell_parent(r) end
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

local function flush_rings()
  for key, tenants in pairs(rings) do
    local entries = {}
    for tenant in pairs(tenants) do
      entries[#entries + 1] = NOW
      entries[#entries + 1] = tenant
    end
    redis.call('ZADD', key, 'NX', unpack(entries))
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
  for key, ids in pairs(drops) do if ids[1] then redis.call('ZREM', key, unpack(ids)) end end
  for key, pairs_ in pairs(scores) do if pairs_[1] then redis.call('ZADD', key, unpack(pairs_)) end end
  for key, ids in pairs(tails) do if ids[1] then redis.call('RPUSH', key, unpack(ids)) end end
  for key, ids in pairs(fronts) do redis.call('LPUSH', key, unpack(ids)) end
  flush_lines()
  flush_rings()
  flush_counts()
  if #changed > 0 then redis.call('PUBLISH', prefix .. ':changed', table.concat(changed, ' ')) end
  for queue in pairs(woken) do redis.call('PUBLISH', prefix .. ':wake', queue) end
  if earliest then redis.call('PUBLISH', prefix .. ':wake', string.format('@%.0f', earliest)) end
  discard()
end
