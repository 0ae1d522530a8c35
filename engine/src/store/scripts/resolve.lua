-- A person (or proof) says what became of an open Once step of an unknown job. When none is open any more the job goes on: to
-- work, or, when a cancel was asked for, to its undo or its end. KEYS prefix.
-- ARGV time, id, step ('' when only one is open), happened (1 | 0), result, note, request.
-- Reply {word, steps, one a line}: resolved (which) | several (which are open) | not_open (which are) | not_unknown | gone.
-- happened 1: the step counts as done with `result`; 0: it is forgotten and will be done again. Events: resolved cancelled.
local id, step, happened, result, note, request = ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5], ARGV[6], ARGV[7]
local before = answered(request)
if before then return { before[1], before[2] } end
local r = load(id)
if not r then return { 'gone', '' } end
if r.place ~= UNKNOWN then return { 'not_unknown', WORDS[r.place] } end
local key, open_ones = prefix .. ':steps:' .. id, open_once_steps(id)
local function is_open(name)
  for _, other in ipairs(open_ones) do if other == name then return true end end
  return false
end
if step == '' and #open_ones > 1 then return { 'several', table.concat(open_ones, '\n') } end
if step ~= '' and not is_open(step) then return { 'not_open', table.concat(open_ones, '\n') } end
local named = step ~= '' and step or open_ones[1] or ''
if named ~= '' and happened then
  local _, code, begun_by, begun_at, _, ordinal = struct.unpack(STEP, redis.call('HGET', key, named))
  redis.call('HSET', key, named, struct.pack(STEP, 1, code, begun_by, begun_at, NOW, ordinal) .. result)
elseif named ~= '' then
  redis.call('HDEL', key, named)
end
local ends = has(r, CANCEL) and not has(r, UNDO)
-- Of the others nobody said anything yet.
if #open_ones <= 1 then
  leave(r)
  for _, flag in ipairs({ ONCE_OPEN, CLOSING, CLOSING_AGAIN }) do clear(r, flag) end
  -- Told as unknown it would seem so until it starts.
  if not ends then r.place = READY end
  event(r, 'resolved', note)
  if ends then
    finish(r, CANCELLED, 'cancelled', '')
    unlock(r)
  else
    r.attempt = math.min(r.attempt, r.max_attempts - 1)
    r.run_at = NOW
    enter_due(r)
  end
else
  event(r, 'resolved', note)
end
flush()
return answer(request, 'resolved', named)
