-- Writes a step's result, once (E4). KEYS prefix. ARGV time, id, fence, step, result, most bytes of all results of the job.
-- Reply {word, result}: ok | already (with the first result) | full (E7) | stale | not_begun.
local id, fence, step, result, most = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], tonumber(ARGV[6])
local r = load(id)
if not r or r.place ~= RUNNING or r.fence ~= fence then return { 'stale' } end
local key = prefix .. ':steps:' .. id
local held = redis.call('HGET', key, step)
if not held then return { 'not_begun' } end
local state, code, begun_by, begun_at, _, ordinal = struct.unpack(STEP, held)
if state == 1 then return { 'already', string.sub(held, 23) } end
-- Small results are bounded by the number of steps; to count them would cost more than they are.
if #result >= 256 then
  local extras = prefix .. ':extras:' .. id
  local bytes = tonumber(redis.call('HGET', extras, 'journal') or 0) + #result
  if bytes > most then return { 'full' } end
  redis.call('HSET', extras, 'journal', bytes)
end
redis.call('HSET', key, step, struct.pack(STEP, 1, code, begun_by, begun_at, NOW, ordinal) .. result)
-- Several Once steps may be open side by side: the flag goes with the last.
if code % 4 == 3 and #open_once_steps(id) == 0 then clear(r, ONCE_OPEN) end
r.dirty = true
changed[#changed + 1] = id
flush()
return { 'ok' }
