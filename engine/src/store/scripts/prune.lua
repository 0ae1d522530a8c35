-- Forgets finished jobs from the head of their list: those that are named, as far as they are still as they were read.
-- KEYS prefix. ARGV time, place word, kind, then per entry at the head: id, seq (of a job that is elsewhere by now: -1).
-- An entry whose job is gone, is in another place, or was revived since is dropped alone; at the first other difference it stops.
-- Reply: how many entries were dropped, how many jobs were forgotten.
local word, kind = ARGV[2], ARGV[3]
local line = prefix .. ':finished:' .. word .. ':' .. kind
local meant, named = {}, (#ARGV - 3) / 2
for n = 1, named do
  local id, seq = ARGV[n * 2 + 2], tonumber(ARGV[n * 2 + 3])
  meant[id] = math.max(seq, meant[id] or -1)
end
local heads = named > 0 and redis.call('LRANGE', line, 0, named - 1) or {}
load_all(heads)
local dropped, forgotten, gone, touched = 0, 0, {}, {}
-- A job that was revived and ended again has several entries; the last is its own.
local void = prefix .. ':void:' .. word .. ':' .. kind
local voids = redis.call('EXISTS', void) == 1
local function is_void(id)
  if not voids or redis.call('HEXISTS', void, id) == 0 then return false end
  for _, name in ipairs({ id, '' }) do
    if redis.call('HINCRBY', void, name, -1) <= 0 then redis.call('HDEL', void, name) end
  end
  return true
end
for n, id in ipairs(heads) do
  local r = records[id]
  local ended = not is_void(id) and r and WORDS[r.place] == word
  if ended and meant[id] ~= r.seq then break end
  dropped = n
  if ended then
    count_place(r, -1)
    for _, beside in ipairs({ ':j:', ':steps:', ':extras:', ':log:', ':signals:', ':children:' }) do gone[#gone + 1] = prefix .. beside .. id end
    redis.call('LREM', tenant_chunk_key(r.who.tenant, r.chunk), 1, id)
    touched[r.who.tenant] = r.who.tenant_key
    records[id], forgotten = false, forgotten + 1
  end
end
if dropped > 0 then redis.call('LTRIM', line, dropped, -1) end
if #gone > 0 then redis.call('UNLINK', unpack(gone)) end
-- Says where a tenant's lists begin; a few empty ones are passed at a time.
for tenant, key in pairs(touched) do
  local ends = redis.call('HMGET', key, 'total', 'first')
  local first, last = tonumber(ends[2] or 0), math.floor(tonumber(ends[1] or 0) / CHUNK)
  local passed = 0
  while first < last and passed < 20 and redis.call('EXISTS', tenant_chunk_key(tenant, first)) == 0 do first, passed = first + 1, passed + 1 end
  if passed > 0 then redis.call('HSET', key, 'first', first) end
end
flush()
return { dropped, forgotten }
