-- Shared by every script, behind places.lua: how a job comes to be ready and how it ends; resources and their lines, parents.
-- Resources are named in one global order; `~` before a name says that others may share it.
local function resources_of(who)
  if not who.resources then
    who.resources, who.shares = {}, {}
    for entry in string.gmatch(who.resource, '[^\n]+') do
      local name = string.match(entry, '^~(.*)$')
      who.resources[#who.resources + 1] = name or entry
      who.shares[name or entry] = name ~= nil
    end
  end
  return who.resources
end

local function take_lock(name, shared, id)
  local key = lock_key(name)
  local holders = redis.call('HLEN', key)
  local passable = holders == 0 or (shared and (holders > 1 or redis.call('HVALS', key)[1] == 's'))
  if passable then redis.call('HSET', key, id, shared and 's' or 'x') end
  return passable
end

-- Takes what is missing of the job's resources, in their order; the name of the one that it must wait for, or nil.
-- Nobody goes before those who wait already.
local function acquire(r)
  for _, name in ipairs(resources_of(r.who)) do
    if redis.call('HEXISTS', lock_key(name), r.id) == 0 then
      if redis.call('EXISTS', waiters_key('r ' .. name)) == 1 then return name end
      if not take_lock(name, r.who.shares[name], r.id) then return name end
    end
    set(r, LOCKED)
  end
end

-- A due job becomes ready, or blocked while others hold what it needs (ENG-09).
local function enter_due(r, front)
  local missing = r.who.resource ~= '' and acquire(r)
  if missing then return block(r, RESOURCE_HELD, 'r ' .. missing) end
  r.reason = 0
  enter(r, READY, nil, front)
end

-- Whether a job that was due is not: it became so by a clock that was wrong. What is to be undone goes on, and so does what
-- was wanted at once while the clock was wrong.
local function is_early(r)
  return r.run_at > NOW and r.run_at > r.created_at and not has(r, CANCEL) and not has(r, UNDOING)
end

-- A job that may not go on keeps nothing from others meanwhile, unless it is in the middle of its work. Who waits is served by
-- promote. `once`: it does so the first time only. What must find a place under a limit and its resource free at one moment might
-- never start; places come free by themselves, so it waits for one with the resource in its hands.
local function give_way(r, once)
  if not has(r, LOCKED) or has(r, JOURNAL) or (once and has(r, GAVE_WAY)) then return end
  if once then set(r, GAVE_WAY) end
  clear(r, LOCKED)
  for _, name in ipairs(resources_of(r.who)) do
    local hold = 'r ' .. name
    if redis.call('HDEL', lock_key(name), r.id) == 1 and redis.call('EXISTS', waiters_key(hold)) == 1 then open_hold(hold, NOW) end
  end
end

-- Back to its planned time.
local function put_back(r)
  give_way(r)
  r.reason = 0
  enter(r, SCHEDULED)
  event(r, 'scheduled', '{"reason":"not_due"}')
end

-- Lets go on those who wait for a resource, in their order, as far as they fit beside those who hold it; how many.
local function serve(name)
  local waiters = waiters_key('r ' .. name)
  for served = 0, 49 do
    local id = redis.call('ZRANGE', waiters, 0, 0)[1]
    local heir = id and load(id)
    if not heir then return served end
    if is_early(heir) then
      leave(heir)
      put_back(heir)
    else
      local shared = resources_of(heir.who) and heir.who.shares[name]
      if not take_lock(name, shared, id) then return served end
      set(heir, LOCKED)
      leave(heir)
      enter_due(heir)
      if not shared then return served + 1 end
    end
  end
  open_hold('r ' .. name, NOW)
  return 50
end

-- Lets go of all that the job holds.
local function unlock(r)
  if not has(r, LOCKED) then return end
  clear(r, LOCKED)
  r.dirty = true
  for _, name in ipairs(resources_of(r.who)) do
    if redis.call('HDEL', lock_key(name), r.id) == 1 then serve(name) end
  end
end

-- A suspended job goes on; one that runs and was about to be suspended will find its hold gone.
local function wake(r)
  if r.place == WAITING then
    leave(r)
    enter_due(r)
  elseif r.place == RUNNING then
    drop_hold(r.id)
  end
end

local function tell_parent(r)
  local key = children_key(r.who.parent)
  local mark = redis.call('HGET', key, r.id)
  if not mark then return end
  redis.call('HSET', key, r.id, WORDS[r.place])
  if mark ~= 'waited' then return end
  local left = redis.call('HINCRBY', key, '#left', -1)
  local spoiled = r.place ~= SUCCEEDED and redis.call('HEXISTS', key, '#fail') == 1
  local parent = (left <= 0 or spoiled) and load(r.who.parent)
  if parent then wake(parent) end
end

-- A job that failed for good gives its unit back, and takes it again when it is revived. A counter whose period is over stays gone.
local function count_unit(r, by)
  local key = prefix .. ':allowance:' .. r.who.allowance
  if r.who.allowance ~= '' and redis.call('EXISTS', key) == 1 then redis.call('INCRBY', key, by) end
end

-- Ends a job: a word with nothing to note is known from the hot fields. Its parent hears of it; the children of a job that
-- did not succeed are cancelled by cascade.
local function finish(r, place, word, note)
  enter(r, place)
  tell(r, word, note)
  if note == '' and place ~= UNKNOWN then
    r.reason = QUIET_END
  else
    write_down_start(r)
    write_down(r, word, r.seq, NOW, note)
  end
  if place == UNKNOWN then return end
  if has(r, JOURNAL) then drop_hold(r.id) end
  if has(r, FAMILY) and place ~= SUCCEEDED then redis.call('RPUSH', prefix .. ':cascade', r.id) end
  if r.who.parent ~= '' then tell_parent(r) end
end
