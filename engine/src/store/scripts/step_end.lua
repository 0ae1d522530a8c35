-- Writes a step's result, once (E4). KEYS prefix. ARGV time, id, fence, step, result.
-- Reply {word, result}: ok | already (with the first result) | stale | not_begun.
local id, fence, step, result = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local r = load(id)
if not r or r.place ~= RUNNING or r.fence ~= fence then return { 'stale' } end
local key = prefix .. ':steps:' .. id
local held = redis.call('HGET', key, step)
if not held then return { 'not_begun' } end
local state, code, begun_by, begun_at, _, ordinal = struct.unpack('<BBI6I6I6I2', held)
if state == 1 then return { 'already', string.sub(held, 23) } end
redis.call('HSET', key, step, struct.pack('<BBI6I6I6I2', 1, code, begun_by, begun_at, NOW, ordinal) .. result)

-- Several Once steps may be open side by side: the flag goes with the last.
local function once_is_open()
  local steps = redis.call('HGETALL', key)
  for i = 2, #steps, 2 do
    if string.byte(steps[i], 1) == 0 and string.byte(steps[i], 2) % 4 == 3 then return true end
  end
  return false
end
if code % 4 == 3 and not once_is_open() then clear(r, ONCE_OPEN) end
r.dirty = true
changed[#changed + 1] = id
flush()
return { 'ok' }
