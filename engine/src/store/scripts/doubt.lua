-- Part for scripts that ask which Once steps of a job are open: begun, and nobody said what became of them.
local STEP = '<BBI6I6I6I2'
local function open_once_steps(id)
  local steps, open_ones = redis.call('HGETALL', prefix .. ':steps:' .. id), {}
  for i = 1, #steps, 2 do
    local state, code = string.byte(steps[i + 1], 1, 2)
    if state == 0 and code % 4 == 3 then open_ones[#open_ones + 1] = steps[i] end
  end
  table.sort(open_ones)
  return open_ones
end
