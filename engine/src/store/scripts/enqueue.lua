-- Takes jobs in: each is written whole (record, place, index, event, outbox, allowance, ticket) or refused whole.
-- KEYS prefix. ARGV time, max_live, count of groups, then per group: start (what the records of its jobs begin with: header and
-- identity), plain ('1': due now, without wish), count of jobs, then per job: id, rest of the record, and unless plain: run_at, wish (see admit).
-- Replies, nothing at all when all are accepted, else per job: 'accepted' {'duplicate', id} {'conflict', id} {'full', live} {'spent', used} {'ticket', why, tries left}.
-- Events: accepted; scheduled when its time is to come. The same id again gets the same answer (E10).
local max_live, many_groups = tonumber(ARGV[2]), tonumber(ARGV[3])
local live = tonumber(redis.call('HGET', COUNTERS, 'live') or 0)
local groups, at, jobs = {}, 4, 0
for g = 1, many_groups do
  local start, plain, many = ARGV[at], ARGV[at + 1] == '1', tonumber(ARGV[at + 2])
  local step = plain and 2 or 4
  groups[g] = { start = start, plain = plain, from = at + 3, step = step, till = at + 2 + many * step, many = many }
  at, jobs = at + 3 + many * step, jobs + many
end

-- Jobs that are due, ask for nothing more and that nobody listens to: their records begin alike, and each is its start and its rest.
local writes = {}
local function admit_group(group)
  local r = open('', group.start)
  local who = r.who
  if not group.plain or has(r, NOTIFY) or is_listening() or who.resource ~= '' or who.parent ~= '' then return false end
  local line = line_of(who)
  r.place, r.created_at, r.run_at, r.seq, r.chunk = READY, NOW, NOW, 1, line.chunk
  local start = pack_hot(r) .. string.sub(group.start, HOT_BYTES + 1)
  local ready, index = list(tails, ready_key(who, r.priority)), line.list
  for i = group.from, group.till, 2 do
    local id, rest = ARGV[i], ARGV[i + 1]
    writes[#writes + 1] = record_prefix .. id
    writes[#writes + 1] = start .. rest
    ready[#ready + 1] = id
    index[#index + 1] = id
    changed[#changed + 1] = id
  end
  line.added = line.added + group.many
  who.counts[READY] = (who.counts[READY] or 0) + group.many
  live_by = live_by + group.many
  into_ring(who, r.priority)
  return true
end

-- All at once, when no job asks for more than its place and none was here before.
local function admit_plainly()
  if live + jobs > max_live then return false end
  for g = 1, many_groups do
    if not admit_group(groups[g]) then return false end
  end
  return redis.call('MSETNX', unpack(writes)) == 1
end

local replies, all_taken = {}, true
local function admit_each(group)
  for i = group.from, group.till, group.step do
    local id, rest, run_at, wish = ARGV[i], ARGV[i + 1], 0, ''
    if not group.plain then
      local planned, asked = ARGV[i + 2], ARGV[i + 3]
      run_at, wish = tonumber(planned), asked
    end
    local refusal = nil
    if not load(id) then
      refusal = take_in(id, group.start, rest, run_at, wish, live, max_live)
      if not refusal then live = live + 1 end
    end
    replies[#replies + 1] = refusal or 'accepted'
    if refusal then all_taken = false end
  end
end

if not admit_plainly() then
  discard()
  for g = 1, many_groups do admit_each(groups[g]) end
end
flush()
return all_taken and {} or replies
