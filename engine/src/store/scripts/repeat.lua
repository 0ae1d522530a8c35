-- Part for verbs of people whose answer would be another once they are done: the same request again gets its answer again (E10).
local function answered(request)
  local held = redis.call('GET', prefix .. ':answered:' .. request)
  if held then return { struct.unpack('Bc0Bc0', held) } end
end
local function answer(request, word, about)
  redis.call('SET', prefix .. ':answered:' .. request, struct.pack('Bc0Bc0', #word, word, #about, about), 'PX', 600000)
  return { word, about }
end
