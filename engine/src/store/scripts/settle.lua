-- Ends attempts. Only the holder of the current fence is heard (E3), each job on its own (a stale one spoils no other).
-- KEYS prefix. ARGV time, count, then per job: id, fence, ending ('' is a plain done; else packed verdict, wait_ms, result,
--   error, note; verdicts: done retry snooze sleep wait park undone dead cancelled release unknown; wait_ms: delay of retry, instant of
--   snooze, sleep and wait (0 none); park: error is the hold). What has undos registered and is dead or cancelled before they
--   began runs once more, to undo. A cancelled job with an open Once step is unknown, unless another attempt will look at it.
-- Reply per job: 'ok' | 'stale' | 'gone'; nothing at all when all are ok. Sent again after a lost reply, the same fence gets 'ok' again (E10).
-- Events: succeeded retrying scheduled waiting blocked failed cancelled released undoing unknown.
local many = tonumber(ARGV[2])

local function close(r, place, word, note)
  if place == DEAD then count_unit(r, -1) end
  finish(r, place, word, note)
  if place ~= UNKNOWN then unlock(r) end
end

-- A job that succeeded does not run again: its steps are kept, their results are not (E7). Those of others are read again
-- when they are revived. A MiB of results is read, the small ones first; of the steps behind it the name alone is kept (E6).
local function shorten_journal(r)
  if not has(r, JOURNAL) then return end
  local key, steps, kept, room = prefix .. ':steps:' .. r.id, {}, {}, 1048576
  for _, step in ipairs(redis.call('HKEYS', key)) do steps[#steps + 1] = { redis.call('HSTRLEN', key, step), step } end
  table.sort(steps, function(a, b) return a[1] < b[1] end)
  for _, step in ipairs(steps) do
    room = room - step[1]
    local held = room >= 0 and redis.call('HGET', key, step[2]) or struct.pack('<BBI6I6I6I2', 1, 0, r.fence, r.started_at, NOW, 65535)
    kept[#kept + 1] = step[2]
    kept[#kept + 1] = string.byte(held) == 1 and string.sub(held, 1, 22) or held
  end
  redis.call('UNLINK', key)
  write('HSET', key, kept)
  redis.call('HDEL', prefix .. ':extras:' .. r.id, 'journal', 'told')
end

local function is_cancelled(r) return has(r, CANCEL) and not has(r, UNDO) end
-- Nobody may say of a job that it was cancelled while a Once step is open, which may have happened.
local function close_cancelled(r, note)
  if has(r, ONCE_OPEN) then return close(r, UNKNOWN, 'unknown', note) end
  close(r, CANCELLED, 'cancelled', note)
end
-- This attempt did not come by all undos, or could not: the next one leads to them and goes no further.
local function undo_first(r, note)
  set(r, UNDOING)
  r.attempt = 0
  enter(r, READY, nil, true)
  event(r, 'undoing', note)
end
local function must_begin_undo(r) return has(r, UNDO) and not has(r, UNDOING) end
-- A cancel that must still undo what was done goes on at once.
local function must_undo(r) return has(r, CANCEL) and has(r, UNDO) and not has(r, UNDOING) end

local function postpone(r, at, word, note)
  r.run_at = at
  if must_undo(r) then return enter_due(r) end
  enter(r, SCHEDULED)
  event(r, word, note)
end

-- Suspended jobs hold nothing, and their attempt is not counted.
local function suspend(r)
  r.attempt = r.attempt - 1
  unlock(r)
end

local apply = {
  done = function(r, _, note)
    shorten_journal(r)
    close(r, SUCCEEDED, 'succeeded', note)
  end,
  dead = function(r, _, note)
    if must_begin_undo(r) then return undo_first(r, note) end
    close(r, DEAD, 'failed', note)
  end,
  cancelled = function(r, _, note)
    if must_begin_undo(r) or has(r, ONCE_OPEN) then set(r, CANCEL) end
    if must_begin_undo(r) and not has(r, ONCE_OPEN) then return undo_first(r, note) end
    close_cancelled(r, note)
  end,
  undone = function(r, _, note)
    clear(r, UNDO)
    if has(r, CANCEL) then close_cancelled(r, note) else close(r, DEAD, 'failed', note) end
  end,
  unknown = function(r, _, note) close(r, UNKNOWN, 'unknown', note) end,
  retry = function(r, wait_ms, note)
    if is_cancelled(r) and not has(r, ONCE_OPEN) then return close_cancelled(r, note) end
    if not has(r, JOURNAL) then unlock(r) end
    postpone(r, NOW + wait_ms, 'retrying', note)
  end,
  snooze = function(r, at, note)
    if is_cancelled(r) then return close_cancelled(r, note) end
    r.attempt = r.attempt - 1
    if not has(r, JOURNAL) then unlock(r) end
    postpone(r, math.max(at, NOW), 'scheduled', note)
  end,
  sleep = function(r, at, note)
    if is_cancelled(r) then return close_cancelled(r, note) end
    suspend(r)
    postpone(r, math.max(at, NOW), 'scheduled', note)
  end,
  wait = function(r, at, note)
    if is_cancelled(r) then return close_cancelled(r, note) end
    suspend(r)
    if must_undo(r) or not hold_of(r.id) then return enter_due(r) end
    enter(r, WAITING, at > 0 and at or NEVER)
    event(r, 'waiting', note)
  end,
  park = function(r, _, note, hold)
    if is_cancelled(r) then return close_cancelled(r, note) end
    suspend(r)
    -- Cancelled while it ran: the next attempt is told so, and says what it cannot undo.
    if has(r, CANCEL) then return enter_due(r) end
    block(r, CODE_CHANGED, hold, nil, note)
  end,
  release = function(r, _, note)
    if is_cancelled(r) and not has(r, ONCE_OPEN) then return close_cancelled(r, note) end
    r.attempt = r.attempt - 1
    enter(r, READY, nil, true)
    event(r, 'released', note)
  end,
}

-- A plain end of a job that nobody listens to and that holds nothing: only its hot fields change.
local ended, unleased = {}, list(drops, INDEX[RUNNING])
local function may_end_plainly(who)
  if who.plain == nil then
    who.plain = who.allowance == '' and who.parent == '' and not is_listening() and not gates_of(who) and not queue_limit(who.queue)
  end
  return who.plain
end
local function end_plainly(id, key, bytes, fence)
  local flags, length = struct.unpack('<I2I2', bytes, 2)
  local _, place, attempt, held_by, seq, started_seq, started_at = struct.unpack(CLAIMED, bytes, CHANGING)
  if place ~= RUNNING or held_by ~= fence or flags ~= 0 or ended[id] then return false end
  local who = identity(bytes, length)
  if not may_end_plainly(who) then return false end
  redis.call('SETRANGE', key, CHANGING - 1,
    struct.pack(ENDED, QUIET_END, SUCCEEDED, attempt, held_by, seq + 1, started_seq, started_at, NOW))
  ended[id] = true
  count_move(who, RUNNING, SUCCEEDED)
  live_by = live_by - 1
  local done = list(tails, ended_key(who, SUCCEEDED))
  done[#done + 1] = id
  unleased[#unleased + 1] = id
  changed[#changed + 1] = id
  return true
end

local function settle(id, fence, ending)
  local r = load(id)
  if not r then return 'gone' end
  if r.fence ~= fence then return 'stale' end
  if r.place ~= RUNNING then return 'ok' end
  local verdict, wait_ms, result, failure, note = 'done', 0, '', '', ''
  if ending ~= '' then verdict, wait_ms, result, failure, note = struct.unpack('<Bc0I6I4c0I2c0I2c0', ending) end
  leave(r)
  free_place(r.who)
  -- A job that undoes its steps keeps the error that it undoes them for.
  local keeps = verdict == 'park' or (has(r, UNDOING) and (verdict == 'retry' or verdict == 'unknown'))
  if not keeps then put_outcome(r, result, failure) end
  apply[verdict](r, wait_ms, note, failure)
  return 'ok'
end

local keys, replies, all_well = {}, {}, true
for i = 1, many do keys[i] = record_prefix .. ARGV[i * 3] end
local found = redis.call('MGET', unpack(keys))
for i = 1, many do
  local id, fence, ending = ARGV[i * 3], tonumber(ARGV[i * 3 + 1]), ARGV[i * 3 + 2]
  local plain = ending == '' and found[i] and records[id] == nil and end_plainly(id, keys[i], found[i], fence)
  replies[i] = plain and 'ok' or settle(id, fence, ending)
  if replies[i] ~= 'ok' then all_well = false end
end
flush()
return all_well and {} or replies
