-- Shared by every script: the clock, the keys, the record and its events; places.lua and resources.lua stand behind it.
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
-- It gave its resources away once while it waited for a limit; cleared when it starts.
local GAVE_WAY = 32768
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
-- Tells those who listen of a change (webhook outbox, watchers); 64 on top of the place: a step was begun. History knows `accepted`, the last `started` and a quiet
-- end by the hot fields alone; keep() writes the others down.
local function tell(r, word, note)
  r.seq, r.dirty = r.seq + 1, true
  if wanted(r) then
    local w, meta = r.who, meta_of(r)
    local seen = has(r, JOURNAL) and r.place + 64 or r.place
    redis.call('XADD', prefix .. ':outbox', '*', 'e', struct.pack('<BI6I4BI2Bc0Bc0Bc0I4c0I2c0', EVENT[word], NOW, r.seq, seen,
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
