-- Forgets finished jobs that are older than their time, or over the count. KEYS prefix.
-- ARGV time, place word, max_age_ms, max_count, limit. Reply: how many entries were looked at and dropped.
local word, max_age, max_count, limit = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local list = prefix .. ':finished:' .. word
local over = redis.call('LLEN', list) - max_count
local heads = redis.call('LRANGE', list, 0, limit - 1)
load_all(heads)
local dropped, gone = 0, {}
for i, id in ipairs(heads) do
  local r = records[id]
  local mine = r and WORDS[r.place] == word
  if mine and i > over and NOW - r.finished_at < max_age then break end
  dropped = i
  if mine then
    count_place(r, -1)
    for _, key in ipairs({ record_key(id), prefix .. ':steps:' .. id, prefix .. ':extras:' .. id, prefix .. ':log:' .. id }) do gone[#gone + 1] = key end
    gather(drops, prefix .. ':tenant:' .. r.who.tenant, id)
    records[id] = false
  end
end
if dropped > 0 then redis.call('LTRIM', list, dropped, -1) end
if #gone > 0 then redis.call('UNLINK', unpack(gone)) end
flush()
return dropped
