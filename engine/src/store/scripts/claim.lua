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
local taken, ids_taken = {}, {}
local function take(queue, priority)
  local key = prefix .. ':ready:' .. priority .. ':' .. queue
  -- Entries left behind by a cancel are skipped; a few rounds are enough, the next claim goes on.
  for _ = 1, 3 do
    if #taken >= want then return end
    local ids = redis.call('LPOP', key, want - #taken)
    if not ids then return end
    load_all(ids)
    for i = 1, #ids do
      local r = records[ids[i]]
      if r and r.place == READY and not r.taken then
        r.taken = true
        taken[#taken + 1] = r
        ids_taken[#taken] = r.id
      end
    end
  end
end
if not paused[1] then
  for q, queue in ipairs(queues) do
    for priority = 0, 3 do
      if not paused[q + 1] then take(queue, priority) end
    end
  end
end

local base, leases = #taken > 0 and next_fence(#taken) or 0, NOW + lease_ms
local reply = { string.format('%.0f', NOW), next_due() }
for i = 1, #taken do
  local r = taken[i]
  count_place(r, -1)
  r.attempt, r.fence, r.started_at = r.attempt + 1, base + i, NOW
  enter(r, RUNNING, leases)
  tell(r, 'started', '')
  r.started_seq = r.seq
  local at = i * 3
  reply[at], reply[at + 1], reply[at + 2] = r.id, r.bytes, pack_hot(r)
end
if #taken > 0 then
  redis.call('SET', last_key, request .. ' ' .. string.format('%.0f', base) .. ' ' .. table.concat(ids_taken, ' '), 'PX', lease_ms)
end
flush()
return reply
