-- Gives ready jobs to a worker under a lease, after promoting what is due. An attempt is counted here, so a crash counts.
-- KEYS prefix. ARGV time, want, lease_ms, promote_limit, worker, request, kinds (' a b ', '' any), no_later, by (0 none),
--   then the queues in the worker's order.
-- The same request again (a lost reply) gets the same jobs, as far as they still run under that claim, for a new lease (E10). One
-- that comes after its time `by`, or after a later one, takes nothing: nobody waits for its answer.
-- A destructive job that was promoted by a clock that was wrong goes back to its planned time.
-- Tenants take turns within a queue and priority. A job that may not start now is set aside: blocked, with the reason;
--   others may have its resources meanwhile.
-- By a time after `no_later` (ms, 0 not known) the clock may have jumped: nothing is promoted or started until the worker has looked.
-- Reply, flat: time, next due time or '', then per job: id, record as it was, what the claim changed in it. Events: started blocked scheduled.
local want, lease_ms, promote_limit = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local worker, request, kinds = ARGV[5], ARGV[6], ARGV[7]
local no_later, queues = tonumber(ARGV[8]), {}
for i = 10, #ARGV do queues[#queues + 1] = ARGV[i] end

local last_key = prefix .. ':claim:' .. worker
do
  local last, by, now = redis.call('GET', last_key), tonumber(ARGV[9]), string.format('%.0f', NOW)
  local newest = last and tonumber(string.match(last, '^%d+')) or -1
  if newest > tonumber(request) or (by > 0 and NOW > by) then return { now, now } end
  if newest == tonumber(request) then return again(last, lease_ms) end
end

if no_later > 0 and NOW > no_later then return { string.format('%.0f', NOW), '' } end

local function is_known(who)
  if who.known == nil then who.known = kinds == '' or string.find(kinds, ' ' .. who.kind .. ' ', 1, true) ~= nil end
  return who.known
end

-- Jobs that were parked since nobody knew their kind go on when somebody does.
for field in pairs(read_gates() or {}) do
  local kind = string.match(field, '^p (.*)$')
  if kind and is_known({ kind = kind }) then
    redis.call('HDEL', prefix .. ':gates', field)
    open_hold(field, NOW)
  end
end

promote_due(promote_limit)
flush()

local base, leases = next_fence(0), NOW + lease_ms
local reply, ids_taken, seen = { string.format('%.0f', NOW), '' }, {}, {}
local leased = list(scores, INDEX[RUNNING])

-- A harmless job that nobody listens to and nothing stands before starts by its hot fields alone.
local function may_start_plainly(who)
  if who.plain == nil then who.plain = not gates_of(who) and is_known(who) and not is_listening() end
  return who.plain
end
local function start_plainly(id, key, bytes, fence)
  local reason, place, attempt, _, seq = struct.unpack('<BBI2I6I4', bytes, CHANGING)
  if place ~= READY then return nil end
  local flags, length = struct.unpack('<I2I2', bytes, 2)
  local who = identity(bytes, length)
  if bit.band(flags, NOTIFY + DESTRUCTIVE + GAVE_WAY) ~= 0 or not may_start_plainly(who) then return false end
  local part = struct.pack(CLAIMED, reason, RUNNING, attempt + 1, fence, seq + 1, seq + 1, NOW)
  redis.call('SETRANGE', key, CHANGING - 1, part)
  count_move(who, READY, RUNNING)
  leased[#leased + 1] = leases
  leased[#leased + 1] = id
  changed[#changed + 1] = id
  return part
end

local aside, stale = 0, 0
local function set_aside(r, reason, hold, again_at)
  aside = aside + 1
  count_place(r, -1)
  give_way(r, reason == LIMIT_REACHED or reason == RATE_REACHED)
  block(r, reason, hold, again_at)
end

local function start_told(id, bytes, fence)
  local r = records[id] or open(id, bytes)
  records[id] = r
  if has(r, DESTRUCTIVE) and is_early(r) then
    aside = aside + 1
    count_place(r, -1)
    return put_back(r)
  end
  if not is_known(r.who) then
    redis.call('HSET', prefix .. ':gates', 'p ' .. r.who.kind, '')
    return set_aside(r, KIND_UNKNOWN, 'p ' .. r.who.kind)
  end
  local reason, hold, again_at = forbid(r.who, r.flags)
  if reason then return set_aside(r, reason, hold, again_at) end
  count_place(r, -1)
  clear(r, GAVE_WAY)
  r.attempt, r.fence, r.started_at = r.attempt + 1, fence, NOW
  enter(r, RUNNING, leases)
  tell(r, 'started', '')
  r.started_seq = r.seq
  return claimed_part(r)
end

-- Starts what can be started of a slice of a tenant's list; how many it took off the list.
local function take(key, many, limit)
  local ids = redis.call('LPOP', key, many)
  if not ids then return 0 end
  local keys = {}
  for i = 1, #ids do keys[i] = record_prefix .. ids[i] end
  local found = redis.call('MGET', unpack(keys))
  for i = 1, #ids do
    local id, bytes, nth = ids[i], found[i], #ids_taken + 1
    if not bytes or seen[id] then
      stale = stale + 1
    else
      local hot = start_plainly(id, keys[i], bytes, base + nth)
      if hot == nil then stale = stale + 1 end
      if hot == false then hot = start_told(id, bytes, base + nth) end
      if hot then
        seen[id], ids_taken[nth] = true, id
        local at = nth * 3
        reply[at], reply[at + 1], reply[at + 2] = id, bytes, hot
        if limit then count_start(limit) end
      end
    end
  end
  return #ids
end

-- A paused tenant is taken out of the ring until it is resumed.
local function rest(ring, tenant, priority, queue)
  redis.call('ZREM', ring, tenant)
  redis.call('HSET', prefix .. ':idle:' .. tenant, priority .. ':' .. queue, 1)
end

-- One turn round the tenants of a queue and priority, each with its share; false when nobody has a ready job.
local function turn(queue, priority, room, limit)
  local ring = ring_key(queue, priority)
  local tenants = redis.call('ZRANGE', ring, 0, math.min(room, 100) - 1)
  local share, served, drained = math.ceil(room / math.max(#tenants, 1)), {}, {}
  local most = #ids_taken + room
  for _, tenant in ipairs(tenants) do
    local many = math.min(share, most - #ids_taken)
    if gates and gates['t ' .. tenant] then
      rest(ring, tenant, priority, queue)
    elseif many > 0 and take(prefix .. ':ready:' .. priority .. ':' .. queue .. '|' .. tenant, many, limit) < many then
      drained[#drained + 1] = tenant
    elseif many > 0 then
      served[#served + 1] = base + #ids_taken
      served[#served + 1] = tenant
    end
  end
  write('ZADD', ring, served)
  write('ZREM', ring, drained)
  return #tenants > 0
end

local function is_open(queue) return not (read_gates() and (gates['*'] or gates['q ' .. queue])) end
for _, queue in ipairs(queues) do
  local limit = is_open(queue) and queue_limit(queue)
  for priority = 0, is_open(queue) and 3 or -1 do
    -- Jobs set aside make a turn short: a few are enough, the next claim goes on. Entries left behind by cancels make more of it.
    local turns = 0
    while turns < 3 do
      local before, room = stale, math.min(want - #ids_taken, limit and room_under(limit) or want)
      if room <= 0 or not turn(queue, priority, room, limit) then break end
      if stale == before or stale >= 500 then turns = turns + 1 end
    end
  end
  if limit and room_under(limit) <= 0 and limit.rate > 0 then open_hold('l q ' .. queue, math.max(rate_opens(limit), NOW + 1)) end
end
if #ids_taken > 0 then
  next_fence(#ids_taken)
  -- No shorter than a lease: a worker asks again when Redis is back, and copies of what it sent may come even later.
  redis.call('SET', last_key, request .. ' ' .. string.format('%.0f', base) .. ' ' .. table.concat(ids_taken, ' '), 'PX', math.max(600000, lease_ms))
end
flush()
-- Behind what was set aside or left behind there may be others: the worker should look again at once.
reply[2] = aside + stale > 0 and #ids_taken < want and reply[1] or next_due()
return reply
