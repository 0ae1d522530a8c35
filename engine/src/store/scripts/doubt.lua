-- Part for scripts that ask which Once steps of a job are open: begun, and nobody said what became of them.
local STEP = '<BBI6I6I6I2'
-- One that is open is a header and no more; results may be large and are not read (E6).
local function open_once_steps(id)
  local key, open_ones = prefix .. ':steps:' .. id, {}
  for _, step in ipairs(redis.call('HKEYS', key)) do
    if redis.call('HSTRLEN', key, step) == 22 then
      local state, code = string.byte(redis.call('HGET', key, step), 1, 2)
      if state == 0 and code % 4 == 3 then open_ones[#open_ones + 1] = step end
    end
  end
  table.sort(open_ones)
  return open_ones
end
