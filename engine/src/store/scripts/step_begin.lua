-- Opens a step of a running job. KEYS prefix. ARGV time, id, fence, step, ordinal, code, again, seal, inside.
--   code: effect (0 read_only … 3 once) + 4 * sort, + 128 when the step has an undo.
--   again 1: a Once step that is open is begun anew (verify() said that it did not happen); of a cancelled job it is forgotten.
--   seal 1: from here on a cancel comes too late. inside 1: part of a critical section or of an undo, which a cancel waits for.
-- Reply {word, result}: run | done result | open (a Once step of a lost worker) | stale | cancelled (E8).
local id, fence, step, ordinal, code = ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local again, seal, inside = ARGV[7] == '1', ARGV[8] == '1', ARGV[9] == '1'
local r = load(id)
if not r or r.place ~= RUNNING or r.fence ~= fence then return { 'stale' } end
local once = code % 4 == 3
local key = prefix .. ':steps:' .. id
local held = redis.call('HGET', key, step)
local state, _, begun_by, begun_at
if held then
  state, _, begun_by, begun_at = struct.unpack('<BBI6I6', held)
  if state == 1 then return { 'done', string.sub(held, 23) } end
  if once and begun_by ~= fence and not again then return { 'open' } end
end
if (has(r, CANCEL) or has(r, UNDOING)) and not inside then
  if again and once and state == 0 then
    redis.call('HDEL', key, step)
    if #open_once_steps(id) == 0 then clear(r, ONCE_OPEN) end
    r.dirty = true
    flush()
  end
  return { 'cancelled' }
end
redis.call('HSET', key, step, struct.pack('<BBI6I6I6I2', 0, code, fence, begun_at or NOW, 0, ordinal))
set(r, JOURNAL)
if once then set(r, ONCE_OPEN) end
if code % 4 == 2 then set(r, FENCED) end
if seal then set(r, SEALED) end
if code >= 128 then set(r, UNDO) end
r.dirty = true
flush()
return { 'run' }
