-- Takes a child of a running job in, and writes the step that spawned it, in one: neither is there without the other.
-- KEYS prefix. ARGV time, id, fence, step, ordinal, code, most children, then the child: id, hot fields, rest of the record,
--   run_at, wish (as for enqueue).
-- Reply {word, …}: spawned id | stale | cancelled (E8) | too_many | refused and enqueue's own word. Sent again: the same child (E10).
-- Events: the child's accepted, scheduled.
local id, fence, step, ordinal, code, most = ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local child, head, tail, run_at, wish = ARGV[8], ARGV[9], ARGV[10], tonumber(ARGV[11]), ARGV[12]
local r = load(id)
if not r or r.place ~= RUNNING or r.fence ~= fence then return { 'stale' } end
local key, family = prefix .. ':steps:' .. id, children_key(id)
local held = redis.call('HGET', key, step)
if held and string.byte(held, 1) == 1 then return { 'spawned', string.sub(held, 24, -2) } end
if has(r, CANCEL) or has(r, UNDOING) then return { 'cancelled' } end
if redis.call('HLEN', family) - redis.call('HEXISTS', family, '#left') - redis.call('HEXISTS', family, '#fail') >= most then return { 'too_many' } end
if load(child) then return { 'refused', 'exists' } end
local refusal = take_in(child, head, tail, run_at, wish, 0, NEVER)
if refusal then return { 'refused', refusal[1] } end
redis.call('HSET', family, child, 'pending')
redis.call('HSET', key, step, struct.pack('<BBI6I6I6I2', 1, code, fence, NOW, NOW, ordinal) .. '"' .. child .. '"')
set(r, JOURNAL)
set(r, FAMILY)
r.dirty = true
flush()
return { 'spawned', child }
