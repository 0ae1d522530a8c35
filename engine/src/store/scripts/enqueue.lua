-- Takes jobs in: each is written whole (record, place, index, event, outbox, allowance, ticket) or refused whole.
-- KEYS prefix. ARGV time, count, max_live, then per job: id, hot fields, rest of the record, run_at, wish
-- Replies, nothing at all when all are accepted, else per job: 'accepted' {'duplicate', id} {'conflict', id} {'full', live} {'spent', used} {'ticket', why, tries left}.
-- Events: accepted; scheduled when its time is to come. The same id again gets the same answer (E10).
local many, max_live = tonumber(ARGV[2]), tonumber(ARGV[3])
local live = tonumber(redis.call('HGET', COUNTERS, 'live') or 0)

-- A job that is due, asks for nothing more and that nobody listens to: its hot fields are those of others of its sort.
local heads, writes = {}, {}
local function admit_plainly(id, key, head, tail)
  local known = heads[head]
  if known == nil then
    local version, _, flags, priority, _, _, _, _, _, _, _, _, _, length = struct.unpack(HOT, head)
    known = bit.band(flags, NOTIFY) == 0 and not is_listening() and { length = length, priority = priority,
      hot = struct.pack(HOT, version, READY, flags, priority, 0, 0, NOW, NOW, 0, 0, 0, 1, 0, length) }
    heads[head] = known
  end
  if not known then return false end
  local who = identity_of(string.sub(tail, HEADER_BYTES - HOT_BYTES + 1, HEADER_BYTES - HOT_BYTES + known.length))
  if who.resource ~= '' or who.parent ~= '' then return false end
  writes[#writes + 1] = key
  writes[#writes + 1] = known.hot .. tail
  who.counts[READY] = (who.counts[READY] or 0) + 1
  live_by, records[id] = live_by + 1, false
  into_ring(who, known.priority)
  local index, line = list(scores, who.tenant_key), list(tails, ready_key(who, known.priority))
  index[#index + 1] = 0
  index[#index + 1] = id
  line[#line + 1] = id
  changed[#changed + 1] = id
  return true
end

local keys, replies, all_taken = {}, {}, true
for i = 1, many do keys[i] = record_prefix .. ARGV[i * 5 - 1] end
local some_known = redis.call('EXISTS', unpack(keys)) > 0
for i = 1, many do
  local at = i * 5 - 1
  local id, head, tail, run_at, wish = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]), ARGV[at + 4]
  local refusal
  if records[id] == nil and not (some_known and redis.call('EXISTS', keys[i]) == 1) then
    local plain = wish == '' and run_at <= NOW and live < max_live and admit_plainly(id, keys[i], head, tail)
    if not plain then refusal = take_in(id, head, tail, run_at, wish, live, max_live) end
    if not refusal then live = live + 1 end
  end
  replies[i] = refusal or 'accepted'
  if refusal then all_taken = false end
end
if #writes > 0 then redis.call('MSET', unpack(writes)) end
flush()
return all_taken and {} or replies
