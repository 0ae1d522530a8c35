-- A person (or proof) says what became of the open Once step of an unknown job; the job then goes on. KEYS prefix.
-- ARGV time, id, happened (1 | 0), result, note, request. Reply {word, step}: resolved | not_unknown | gone. Events: resolved.
-- happened 1: the step counts as done with `result`; 0: it is forgotten and will be done again.
local id, happened, result, note, request = ARGV[2], ARGV[3] == '1', ARGV[4], ARGV[5], ARGV[6]
local before = answered(request)
if before then return { before[1], before[2] } end
local r = load(id)
if not r then return { 'gone', '' } end
if r.place ~= UNKNOWN then return { 'not_unknown', WORDS[r.place] } end
local key = prefix .. ':steps:' .. id
local steps, named = redis.call('HGETALL', key), ''
for i = 1, #steps, 2 do
  local step, held = steps[i], steps[i + 1]
  local state, code, begun_by, begun_at, _, ordinal = struct.unpack('<BBI6I6I6I2', held)
  if state == 0 and code % 4 == 3 then
    named = step
    if happened then
      redis.call('HSET', key, step, struct.pack('<BBI6I6I6I2', 1, code, begun_by, begun_at, NOW, ordinal) .. result)
    else
      redis.call('HDEL', key, step)
    end
  end
end
leave(r)
warm(r)
clear(r, ONCE_OPEN)
clear(r, CANCEL)
r.attempt = math.min(r.attempt, r.max_attempts - 1)
r.run_at = NOW
event(r, 'resolved', note)
enter_due(r)
flush()
return answer(request, 'resolved', named)
