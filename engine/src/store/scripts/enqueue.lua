-- Takes jobs in: each is written whole (record, place, index, event, outbox, allowance, ticket) or refused whole.
-- KEYS prefix. ARGV time, count, max_live, then per job: id, hot fields, rest of the record, run_at, wish
--   (wish: '' or packed idempotency key, digest, ttl, allowance, limit, resets_at, ticket id, ticket digest, binding).
-- Replies, nothing at all when all are accepted, else per job: 'accepted' {'duplicate', id} {'conflict', id} {'full', live} {'spent', used} {'ticket', why, tries left}.
-- Events: accepted; scheduled when its time is to come. The same id again gets the same answer (E10).
local many, max_live = tonumber(ARGV[2]), tonumber(ARGV[3])
local live = tonumber(redis.call('HGET', COUNTERS, 'live') or 0)

local function remembered(key, digest)
  local held = redis.call('GET', key)
  if not held then return nil end
  local id, first_digest = struct.unpack('Bc0Bc0', held)
  return { first_digest == digest and 'duplicate' or 'conflict', id }
end

local function refuse(r, wish)
  local idem, digest, ttl, allowance, limit, resets_at, ticket, ticket_digest, binding =
    struct.unpack('<Bc0Bc0I6Bc0I4I6Bc0Bc0Bc0', wish)
  local idem_key = prefix .. ':idempotency:' .. r.who.tenant .. ':' .. idem
  local refusal = idem ~= '' and remembered(idem_key, digest) or nil
  if not refusal and live >= max_live then refusal = { 'full', live } end
  local ticket_key, allowance_key = prefix .. ':ticket:' .. ticket, prefix .. ':allowance:' .. allowance
  if not refusal and ticket ~= '' then refusal = refuse_ticket(ticket_key, ticket_digest, binding) end
  local used = tonumber(redis.call('GET', allowance_key) or 0)
  if not refusal and allowance ~= '' and used >= limit then refusal = { 'spent', used } end
  if refusal then return refusal end
  if ticket ~= '' then redis.call('DEL', ticket_key) end
  if allowance ~= '' then redis.call('SET', allowance_key, used + 1, 'PX', math.max(resets_at - NOW, 0) + 86400000) end
  if idem ~= '' then redis.call('SET', idem_key, struct.pack('Bc0Bc0', #r.id, r.id, #digest, digest), 'PX', ttl) end
end

local function admit(r, run_at)
  r.created_at, r.run_at = NOW, run_at > NOW and run_at or NOW
  gather(scores, r.who.tenant_key, 0, r.id)
  r.place = r.run_at > NOW and SCHEDULED or READY
  tell(r, 'accepted', '')
  if r.run_at > NOW then enter(r, SCHEDULED); tell(r, 'scheduled', '') else enter_due(r) end
end

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
  if who.resource ~= '' then return false end
  writes[#writes + 1] = key
  writes[#writes + 1] = known.hot .. tail
  who.counts[READY] = (who.counts[READY] or 0) + 1
  live_by, woken[who.queue], records[id] = live_by + 1, true, false
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
    local r = not plain and open(id, head .. tail)
    if plain then live = live + 1 elseif wish ~= '' then refusal = refuse(r, wish) elseif live >= max_live then refusal = { 'full', live } end
    if r and not refusal then
      records[id], live = r, live + 1
      writes[#writes + 1] = keys[i]
      writes[#writes + 1] = r.bytes
      admit(r, run_at)
    end
  end
  replies[i] = refusal or 'accepted'
  if refusal then all_taken = false end
end
if #writes > 0 then redis.call('MSET', unpack(writes)) end
flush()
return all_taken and {} or replies
