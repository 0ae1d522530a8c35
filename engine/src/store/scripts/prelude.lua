-- Shared by every script: the clock, the keys, the record, the places. Prepended at load time.
-- KEYS[1] is the shard's prefix ({lh:<n>} behind a namespace); every key is built from it, so all are in one slot.
-- ARGV[1] is the time in ms (tests give it), 0 for the store's own clock.
-- A change is gathered while the script decides and written by flush(): nothing is written before all is decided,
-- except locks, allowances and tickets, whose answer the decision needs.
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
  failed = 9, cancelled = 10, unknown = 11, edited = 12, rescued = 13, released = 14, cancelling = 15, revived = 16, resolved = 17 }
local CANCEL, JOURNAL, ONCE_OPEN, LOCKED, SEALED, NOTIFY, EXTRAS, OUTCOME = 1, 2, 4, 8, 16, 32, 64, 128
local HELD_BY_OTHER, QUIET_END = 1, 2
local EVENT_CAP = 100
local COUNTERS = prefix .. ':counters'
-- A record is hot fields (what each claim and settlement changes), cold fields, then the body. Hot ones alone are written
-- back with one SETRANGE; a Lua string of a whole record costs more than all else a claim does.
local HOT, HOT_BYTES = '<BBBBBI2I6I6I6I6I6I4I4I2', 47
local COLD, HEADER_BYTES = '<I2I4I4BI4I4I4I2I2', 74

local function has(r, flag) return bit.band(r.flags, flag) ~= 0 end
local function set(r, flag) r.flags = bit.bor(r.flags, flag) end
local function clear(r, flag) r.flags = bit.band(r.flags, bit.bnot(flag)) end
local record_prefix = prefix .. ':j:'
local function record_key(id) return record_prefix .. id end

local identities = {}
local function identity_of(raw)
  local known = identities[raw]
  if not known then
    local kind, tenant, queue, resource, allowance = struct.unpack('Bc0Bc0Bc0Bc0Bc0', raw)
    known = { kind = kind, tenant = tenant, queue = queue, resource = resource, allowance = allowance, counts = {}, ready = {},
      tenant_key = prefix .. ':tenant:' .. tenant }
    identities[raw] = known
  end
  return known
end
local function identity(bytes, length)
  return identity_of(string.sub(bytes, HEADER_BYTES + 1, HEADER_BYTES + length))
end

local function open(id, bytes)
  local version, place, flags, priority, reason, attempt, created_at, run_at, started_at, finished_at, fence, seq, started_seq,
    identity_len = struct.unpack(HOT, bytes)
  return { id = id, bytes = bytes, version = version, place = place, flags = flags, priority = priority, reason = reason,
    attempt = attempt, created_at = created_at, run_at = run_at, started_at = started_at, finished_at = finished_at, fence = fence,
    seq = seq, started_seq = started_seq, identity_len = identity_len, who = identity(bytes, identity_len), dirty = false }
end

local function pack_hot(r)
  return struct.pack(HOT, r.version, r.place, r.flags, r.priority, r.reason, r.attempt, r.created_at, r.run_at, r.started_at,
    r.finished_at, r.fence, r.seq, r.started_seq, r.identity_len)
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

local scores, drops, tails, fronts, woken, earliest = {}, {}, {}, {}, {}, nil
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
local function ready_key(who, priority)
  local key = who.ready[priority]
  if not key then key = prefix .. ':ready:' .. priority .. ':' .. who.queue; who.ready[priority] = key end
  return key
end
local function lock_key(resource) return prefix .. ':lock:' .. resource end
local function waiters_key(resource) return prefix .. ':waiters:' .. resource end
local INDEX = { [SCHEDULED] = prefix .. ':scheduled', [BLOCKED] = prefix .. ':blocked', [RUNNING] = prefix .. ':leases',
  [WAITING] = prefix .. ':waiting', [UNKNOWN] = prefix .. ':unknown' }
local ENDED = { [SUCCEEDED] = prefix .. ':finished:succeeded', [CANCELLED] = prefix .. ':finished:cancelled', [DEAD] = prefix .. ':finished:dead' }

-- Takes the job out of its place. A ready job's entry in a long list is left behind: a claim skips ids that are not ready.
local function leave(r)
  count_place(r, -1)
  if INDEX[r.place] then gather(drops, INDEX[r.place], r.id) end
  if r.place == BLOCKED then redis.call('ZREM', waiters_key(r.who.resource), r.id) end
  if r.place == READY then
    local key = ready_key(r.who, r.priority)
    if redis.call('LLEN', key) <= 1000 then redis.call('LREM', key, 1, r.id) end
  end
end

local function enter(r, place, score, front)
  r.place, r.dirty = place, true
  count_place(r, 1)
  if place == READY then
    gather(front and fronts or tails, ready_key(r.who, r.priority), r.id)
    woken[r.who.queue] = true
  elseif INDEX[place] then
    gather(scores, INDEX[place], score or r.run_at, r.id)
    if place == BLOCKED then redis.call('ZADD', waiters_key(r.who.resource), r.run_at, r.id) end
    if place == SCHEDULED and (earliest == nil or r.run_at < earliest) then earliest = r.run_at end
  else
    r.finished_at = NOW
    gather(tails, ENDED[place], r.id)
  end
end

-- Ends a job: a word with nothing to note is known from the hot fields.
local function finish(r, place, word, note)
  enter(r, place)
  tell(r, word, note)
  if note == '' and place ~= UNKNOWN then
    r.reason = QUIET_END
  else
    write_down_start(r)
    write_down(r, word, r.seq, NOW, note)
  end
end

-- A due job becomes ready, or blocked while another job holds its resource (ENG-09).
local function enter_due(r, front)
  local resource = r.who.resource
  if resource ~= '' and not has(r, LOCKED) then
    if redis.call('EXISTS', lock_key(resource)) == 1 then
      r.reason = HELD_BY_OTHER
      enter(r, BLOCKED)
      return event(r, 'blocked')
    end
    redis.call('SET', lock_key(resource), r.id)
    set(r, LOCKED)
  end
  r.reason = 0
  enter(r, READY, nil, front)
end

local function unlock(r)
  if not has(r, LOCKED) then return end
  clear(r, LOCKED)
  redis.call('DEL', lock_key(r.who.resource))
  local first = redis.call('ZPOPMIN', waiters_key(r.who.resource))
  local heir = first[1] and load(first[1])
  if heir and heir.place == BLOCKED then
    leave(heir)
    enter_due(heir)
  end
end

local function next_fence(many)
  local key = prefix .. ':fence'
  local last = tonumber(redis.call('GET', key) or 0)
  if last < NOW then last = NOW end
  if many > 0 then redis.call('SET', key, string.format('%.0f', last + many)) end
  return last
end

local function flush_counts()
  for _, who in pairs(identities) do
    for place, by in pairs(who.counts) do
      if by ~= 0 then redis.call('HINCRBY', COUNTERS, who.queue .. '|' .. who.kind .. '|' .. WORDS[place], by) end
    end
    who.counts = {}
  end
  if live_by ~= 0 then redis.call('HINCRBY', COUNTERS, 'live', live_by) end
end

local function flush()
  for id, r in pairs(records) do
    if r and r.dirty then
      if r.rewritten then redis.call('SET', record_prefix .. id, pack(r)) else redis.call('SETRANGE', record_prefix .. id, 0, pack_hot(r)) end
      r.dirty = false
    end
  end
  for key, ids in pairs(drops) do if ids[1] then redis.call('ZREM', key, unpack(ids)) end end
  for key, pairs_ in pairs(scores) do if pairs_[1] then redis.call('ZADD', key, unpack(pairs_)) end end
  for key, ids in pairs(tails) do if ids[1] then redis.call('RPUSH', key, unpack(ids)) end end
  for key, ids in pairs(fronts) do redis.call('LPUSH', key, unpack(ids)) end
  flush_counts()
  if #changed > 0 then redis.call('PUBLISH', prefix .. ':changed', table.concat(changed, ' ')) end
  for queue in pairs(woken) do redis.call('PUBLISH', prefix .. ':wake', queue) end
  if earliest then redis.call('PUBLISH', prefix .. ':wake', string.format('@%.0f', earliest)) end
  scores, drops, tails, fronts, woken, changed, live_by, earliest = {}, {}, {}, {}, {}, {}, 0, nil
end
