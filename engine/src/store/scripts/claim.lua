-- Gives ready jobs to a worker under a lease, after promoting what is due. An attempt is counted here, so a crash counts.
-- KEYS prefix. ARGV time, want, lease_ms, promote_limit, worker, request, then the queues in the worker's order.
-- The same request again (a lost reply) gets the same jobs, as far as they still run under that claim (E10).
-- Reply, flat: time, next due time or '', then per job: id, record as it was, its hot fields as they are now. Events: started.
local want, lease_ms, promote_limit = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local worker, request = ARGV[5], ARGV[6]
local queues = {}
for i = 7, #ARGV do queues[#queues + 1] = ARGV[i] end

local function next_due() return redis.call('ZRANGE', prefix .. ':scheduled', 0, 0, 'WITHSCORES')[2] or '' end
local function again(last)
  local reply, nth = { string.format('%.0f', NOW), next_due() }, 0
  local base, ids = string.match(last, '^%d+ (%d+) (.*)$')
  for id in string.gmatch(ids, '%w+') do
    nth = nth + 1
    local r = load(id)
    if r and r.place == RUNNING and r.fence == tonumber(base) + nth then
      reply[#reply + 1] = id; reply[#reply + 1] = r.bytes; reply[#reply + 1] = pack_hot(r)
    end
  end
  return reply
end

local last_key = prefix .. ':claim:' .. worker
local last = redis.call('GET', last_key)
if last and string.sub(last, 1, #request + 1) == request .. ' ' then return again(last) end

promote_due(promote_limit)
flush()

local paused = redis.call('HMGET', prefix .. ':paused', '*', unpack(queues))
local base, leases = next_fence(0), NOW + lease_ms
local reply, ids_taken, seen = { string.format('%.0f', NOW), '' }, {}, {}
local leased = list(scores, INDEX[RUNNING])

-- A job that nobody listens to starts by its hot fields alone.
local function start_plainly(id, key, bytes, fence)
  local version, place, flags, priority, reason, attempt, created_at, run_at, _, finished_at, _, seq, _, length =
    struct.unpack(HOT, bytes)
  if place ~= READY then return nil end
  if bit.band(flags, NOTIFY) ~= 0 or is_listening() then return false end
  local hot = struct.pack(HOT, version, RUNNING, flags, priority, reason, attempt + 1, created_at, run_at, NOW, finished_at, fence,
    seq + 1, seq + 1, length)
  redis.call('SETRANGE', key, 0, hot)
  count_move(identity(bytes, length), READY, RUNNING)
  leased[#leased + 1] = leases
  leased[#leased + 1] = id
  changed[#changed + 1] = id
  return hot
end

local function start_told(id, bytes, fence)
  local r = records[id] or open(id, bytes)
  records[id] = r
  count_place(r, -1)
  r.attempt, r.fence, r.started_at = r.attempt + 1, fence, NOW
  enter(r, RUNNING, leases)
  tell(r, 'started', '')
  r.started_seq = r.seq
  return pack_hot(r)
end

local function take(key)
  local ids = redis.call('LPOP', key, want - #ids_taken)
  if not ids then return false end
  local keys = {}
  for i = 1, #ids do keys[i] = record_prefix .. ids[i] end
  local found = redis.call('MGET', unpack(keys))
  for i = 1, #ids do
    local id, bytes, nth = ids[i], found[i], #ids_taken + 1
    if bytes and not seen[id] then
      local hot = start_plainly(id, keys[i], bytes, base + nth)
      if hot == false then hot = start_told(id, bytes, base + nth) end
      if hot then
        seen[id], ids_taken[nth] = true, id
        local at = nth * 3
        reply[at], reply[at + 1], reply[at + 2] = id, bytes, hot
      end
    end
  end
  return true
end

if not paused[1] then
  for q, queue in ipairs(queues) do
    for priority = 0, 3 do
      -- Entries left behind by a cancel are skipped; a few rounds are enough, the next claim goes on.
      for _ = 1, 3 do
        if paused[q + 1] or #ids_taken >= want or not take(prefix .. ':ready:' .. priority .. ':' .. queue) then break end
      end
    end
  end
end
reply[2] = next_due()
if #ids_taken > 0 then
  next_fence(#ids_taken)
  redis.call('SET', last_key, request .. ' ' .. string.format('%.0f', base) .. ' ' .. table.concat(ids_taken, ' '), 'PX', lease_ms)
end
flush()
return reply
