-- Part for scripts that decide on the slots of a schedule. Its hash has what was said (`rules`, `job`, `revision`), the last
-- slot that was decided (`cursor`), the next one, why that is stuck, if it is (`stuck_…`), and what became of its slots.
-- `schedules` is scored by the next slot, or by when to try again one that is stuck.
local function schedule_key(member) return prefix .. ':schedule:' .. member end

-- Why this call may not decide on the slots after `before`; nil when it may. One decision a slot, whoever asks.
local function decided(member, revision, before)
  local held = redis.call('HMGET', schedule_key(member), 'revision', 'cursor')
  if not held[1] then return { 'gone' } end
  if held[1] ~= revision then return { 'changed', held[1] } end
  if held[2] ~= before then return { 'decided', held[2] } end
end

-- Nothing is known against the next slot. That its schedule was told of stays known until one fires.
local function line_up(member, next_slot)
  redis.call('HDEL', schedule_key(member), 'stuck_slot', 'stuck_since', 'stuck_why')
  redis.call('ZADD', prefix .. ':schedules', next_slot, member)
end

local function move(member, cursor, next_slot)
  redis.call('HSET', schedule_key(member), 'cursor', cursor, 'next', next_slot)
  line_up(member, next_slot)
end
