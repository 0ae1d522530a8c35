-- Ends attempts. Only the holder of the current fence is heard (E3), each job on its own (a stale one spoils no other).
-- KEYS prefix. ARGV time, count, then per job: id, fence, verdict, wait_ms, result, error, note
--   verdicts: done retry snooze dead cancelled release unknown; wait_ms: delay of retry and snooze.
-- Reply per job: 'ok' | 'stale' | 'gone'. Sent again after a lost reply, the same fence gets 'ok' again (E10).
-- Events: succeeded retrying scheduled failed cancelled released unknown.
local many = tonumber(ARGV[2])

local function close(r, place, word, note)
  if place == DEAD and r.who.allowance ~= '' then redis.call('DECR', prefix .. ':allowance:' .. r.who.allowance) end
  finish(r, place, word, note)
  if place ~= UNKNOWN then unlock(r) end
end

local function postpone(r, wait_ms, word, note)
  r.run_at = NOW + wait_ms
  if not has(r, JOURNAL) then unlock(r) end
  enter(r, SCHEDULED)
  event(r, word, note)
end

local apply = {
  done = function(r, _, note) close(r, SUCCEEDED, 'succeeded', note) end,
  dead = function(r, _, note) close(r, DEAD, 'failed', note) end,
  cancelled = function(r, _, note) close(r, CANCELLED, 'cancelled', note) end,
  unknown = function(r, _, note) close(r, UNKNOWN, 'unknown', note) end,
  retry = function(r, wait_ms, note)
    if has(r, CANCEL) then return close(r, CANCELLED, 'cancelled', note) end
    postpone(r, wait_ms, 'retrying', note)
  end,
  snooze = function(r, wait_ms, note)
    if has(r, CANCEL) then return close(r, CANCELLED, 'cancelled', note) end
    r.attempt = r.attempt - 1
    postpone(r, wait_ms, 'scheduled', note)
  end,
  release = function(r, _, note)
    if has(r, CANCEL) then return close(r, CANCELLED, 'cancelled', note) end
    r.attempt = r.attempt - 1
    enter(r, READY, nil, true)
    event(r, 'released', note)
  end,
}

local ids, replies = {}, {}
for i = 1, many do ids[i] = ARGV[i * 7 - 4] end
load_all(ids)
for i = 1, many do
  local at = i * 7 - 4
  local id, fence, verdict, wait_ms = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], tonumber(ARGV[at + 3])
  local result, failure, note = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  local r = records[id]
  if not r then
    replies[i] = 'gone'
  elseif r.fence ~= fence then
    replies[i] = 'stale'
  elseif r.place ~= RUNNING then
    replies[i] = 'ok'
  else
    if not apply[verdict] then return redis.error_reply('ERR unknown verdict ' .. verdict) end
    leave(r)
    put_outcome(r, result, failure)
    apply[verdict](r, wait_ms, note)
    replies[i] = 'ok'
  end
end
flush()
return replies
