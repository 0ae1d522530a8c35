-- Part for scripts that spend a ticket (a one-use code with a binding, an end and a number of tries).
local function refuse_ticket(key, digest, binding)
  local t = redis.call('HMGET', key, 'digest', 'binding', 'tries', 'expires')
  if not t[1] then return { 'ticket', 'missing', 0 } end
  local left = tonumber(t[3])
  if tonumber(t[4]) <= NOW then return { 'ticket', 'expired', 0 } end
  if left <= 0 then return { 'ticket', 'locked', 0 } end
  if t[1] == digest and t[2] == binding then return nil end
  redis.call('HINCRBY', key, 'tries', -1)
  return { 'ticket', t[2] == binding and 'wrong' or 'other', left - 1 }
end
