-- Takes back jobs whose lease ran out. A new fence shuts the old holder out at once. KEYS prefix.
-- ARGV time, limit, failure (error document for jobs without attempts left), note, until (leases that ended by then), longest
-- (a lease that ends later than so many ms from now is one from before the clock went back). Reply: the ids that were moved.
-- A job goes to ready again; without attempts left to dead; to unknown when a Once step is open and nobody may try again;
-- to cancelled when a cancel was asked for. What has undos registered runs once more, to undo. What began a Fenced step runs up to
-- twice more, uncounted, to settle with what is known; then it is unknown. Events: rescued undoing failed unknown cancelled.
local limit, failure, note = tonumber(ARGV[2]), ARGV[3], ARGV[4]
-- Deaths nobody was told of yet: ids, some MB of them (E7). What is over is counted, and upkeep raises an alert.
local MOST_UNTOLD = 100000
local ended_by, longest = math.min(NOW, tonumber(ARGV[5])), tonumber(ARGV[6])

-- The target may hold something of the job, so `dead` would hide it: a closing run settles with what the target and the journal
-- say. A job that is lost there, too, ends here.
local function close(r)
  if has(r, CLOSING_AGAIN) then return finish(r, UNKNOWN, 'unknown', note) end
  set(r, has(r, CLOSING) and CLOSING_AGAIN or CLOSING)
  r.attempt = r.max_attempts - 1
  enter(r, READY, nil, true)
  event(r, 'rescued', note)
end

local function take_back(r)
  local last, undo = r.attempt >= r.max_attempts, has(r, UNDO) and not has(r, UNDOING)
  if has(r, ONCE_OPEN) and (last or has(r, CANCEL)) then
    finish(r, UNKNOWN, 'unknown', note)
  elseif has(r, CANCEL) and not has(r, UNDO) then
    finish(r, CANCELLED, 'cancelled', note)
    unlock(r)
  elseif last and undo then
    put_outcome(r, '', failure)
    set(r, UNDOING)
    r.attempt = 0
    enter(r, READY, nil, true)
    event(r, 'undoing', note)
  elseif last and has(r, FENCED) and not has(r, UNDOING) then
    close(r)
  elseif last then
    put_outcome(r, '', failure)
    count_unit(r, -1)
    finish(r, DEAD, 'failed', note)
    unlock(r)
    -- No attempt is there to tell anybody: upkeep does.
    if redis.call('RPUSH', prefix .. ':untold', r.id) > MOST_UNTOLD then
      redis.call('LPOP', prefix .. ':untold')
      redis.call('INCR', prefix .. ':never_told')
    end
  else
    enter(r, READY, nil, true)
    event(r, 'rescued', note)
  end
end

local ids = redis.call('ZRANGEBYSCORE', prefix .. ':leases', '-inf', string.format('%.0f', ended_by), 'LIMIT', 0, limit)
if #ids == 0 then
  ids = redis.call('ZREVRANGEBYSCORE', prefix .. ':leases', 'inf', string.format('(%.0f', NOW + longest), 'LIMIT', 0, limit)
end
load_all(ids)
local fence, moved = #ids > 0 and next_fence(#ids) or 0, {}
for i, id in ipairs(ids) do
  local r = records[id]
  if not r or r.place ~= RUNNING then
    gather(drops, prefix .. ':leases', id)
  else
    leave(r)
    free_place(r.who)
    warm(r)
    r.fence = fence + i
    take_back(r)
    moved[#moved + 1] = id
  end
end
flush()
return moved
