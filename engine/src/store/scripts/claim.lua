-- Gives ready jobs to a worker under a lease, after promoting what is due. An attempt is counted here, so a crash counts.
-- KEYS prefix. ARGV time, want, lease_ms, promote_limit, worker, request, then the queues in the worker's order.
-- The same request again (a lost reply) gets the same jobs, as far as they still run under that claim (E10).
-- Reply: {time, next due time or '', {id, fence, record} …}. Events: started.
local want, lease_ms, promote_limit = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local worker, request = ARGV[5], ARGV[6]
local queues = {}
for i = 7, #ARGV do queues[#queues + 1] = ARGV[i] end

local function next_due() return redis.call('ZRANGE', prefix .. ':scheduled', 0, 0, 'WITHSCORES')[2] or '' end
local function again(last)
  local reply = { string.format('%.0f', NOW), next_due() }
  for id, fence in string.gmatch(last, '(%w+):(%d+)') do
    local r = load(id)
    if r and r.place == RUNNING and r.fence == tonumber(fence) then reply[#reply + 1] = { id, fence, pack(r) } end
  end
  return reply
end

local last_key = prefix .. ':claim:' .. worker
local last = redis.call('GET', last_key)
if last and string.sub(last, 1, #request + 1) == request .. ' ' then return again(last) end

promote_due(promote_limit)
flush()
reset_gathered()

local paused = redis.call('HMGET', prefix .. ':paused', '*', unpack(queues))
local taken = {}
if not paused[1] then
  for q, queue in ipairs(queues) do
    for priority = 0, 3 do
      -- Entries left behind by a cancel are skipped; a few rounds are enough, the next claim goes on.
      for _ = 1, 3 do
        if paused[q + 1] or #taken >= want then break end
        local ids = redis.call('LPOP', ready_key(queue, priority), want - #taken)
        if not ids then break end
        load_all(ids)
        for _, id in ipairs(ids) do
          local r = records[id]
          if r and r.place == READY and not r.taken then r.taken = true; taken[#taken + 1] = r end
        end
      end
    end
  end
end

local fence = #taken > 0 and next_fence(#taken) or 0
local reply, note = { string.format('%.0f', NOW), next_due() }, { request, ' ' }
for i, r in ipairs(taken) do
  count_place(r, -1)
  r.attempt, r.fence = r.attempt + 1, fence + i
  if r.started_at == 0 then r.started_at = NOW end
  enter(r, RUNNING, NOW + lease_ms)
  event(r, 'started')
  local held_by = string.format('%.0f', r.fence)
  reply[#reply + 1] = { r.id, held_by, pack(r) }
  note[#note + 1] = r.id .. ':' .. held_by .. ' '
end
if #taken > 0 then redis.call('SET', last_key, table.concat(note), 'PX', lease_ms) end
flush()
return reply
