-- Part for scripts that spend a ticket (a one-use code with a binding, an end and a number of tries).
-- A wrong one that is sent again for the same job (a lost reply) gets its answer again and costs no other try (E10).
local function refuse_ticket(key, digest, binding, id)
  local t = redis.call('HMGET', key, 'digest', 'binding', 'tries', 'expires', 'last')
  if not t[1] then return { 'ticket', 'missing', 0 } end
  local left, this = tonumber(t[3]), id .. ' ' .. digest .. ' ' .. binding
  if tonumber(t[4]) <= NOW then return { 'ticket', 'expired', 0 } end
  local why = t[2] == binding and 'wrong' or 'other'
  if t[5] == this then return { 'ticket', why, left } end
  if left <= 0 then return { 'ticket', 'locked', 0 } end
  if t[1] == digest and t[2] == binding then return nil end
  redis.call('HSET', key, 'tries', left - 1, 'last', this)
  return { 'ticket', why, left - 1 }
end
