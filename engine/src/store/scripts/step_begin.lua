-- Opens a step of a running job. KEYS prefix. ARGV time, id, fence, step, effect (0 read_only … 3 once), again, seal.
--   again 1: a Once step that is open is begun anew (verify() said that it did not happen).
--   seal 1: from here on a cancel comes too late.
-- Reply {word, result}: run | done result | open (a Once step of a lost worker) | stale | cancelled (E8).
local id, fence, step, effect, again, seal = ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), ARGV[6] == '1', ARGV[7] == '1'
local r = load(id)
if not r or r.place ~= RUNNING or r.fence ~= fence then return { 'stale' } end
local key = prefix .. ':steps:' .. id
local held = redis.call('HGET', key, step)
local state, _, begun_by, begun_at
if held then
  state, _, begun_by, begun_at = struct.unpack('<BBI6I6', held)
  if state == 1 then return { 'done', string.sub(held, 21) } end
  if effect == 3 and begun_by ~= fence and not again then return { 'open' } end
end
if has(r, CANCEL) then return { 'cancelled' } end
redis.call('HSET', key, step, struct.pack('<BBI6I6I6', 0, effect, fence, begun_at or NOW, 0))
set(r, JOURNAL)
if effect == 3 then set(r, ONCE_OPEN) end
if seal then set(r, SEALED) end
r.dirty = true
flush()
return { 'run' }
