-- Writes down what a running job is about to wait for, or answers at once when it is there already. Settling `sleep` or `wait`
-- then suspends the job. Under one script with signal and finish, nothing that comes meanwhile is missed.
-- KEYS prefix. ARGV time, id, fence, step, ordinal, code, what (time | signal | answers | all | any), about (signal name, or
--   the policy of children: fail | collect), at (ms; 0 never), after (ms; '' none), wait document, how many signals were seen,
--   then child ids.
-- Until when it waits is fixed when it is first written down.
-- Reply {word, …}: waits until | done result | look now until signals… | stale | cancelled | not_child id.
local id, fence, step, ordinal, code = ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local what, about, at, after, document = ARGV[7], ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11]
local seen, from = tonumber(ARGV[12]), 13
local r = load(id)
if not r or r.place ~= RUNNING or r.fence ~= fence then return { 'stale' } end
local key, begun_at, till = prefix .. ':steps:' .. id, NOW, after and NOW + after or at
local held = redis.call('HGET', key, step)
if held then
  local state = string.byte(held, 1)
  if state == 1 then return { 'done', string.sub(held, 23) } end
  begun_at = struct.unpack('<I6', held, 9)
  if state == 2 then till = struct.unpack('<I6', held, 23) end
end
if has(r, CANCEL) or has(r, UNDOING) then return { 'cancelled' } end

local function write(state, ended_at, rest)
  redis.call('HSET', key, step, struct.pack('<BBI6I6I6I2', state, code, fence, begun_at, ended_at, ordinal) .. rest)
  set(r, JOURNAL)
  r.dirty = true
end
local function ends(result)
  write(1, NOW, result)
  flush()
  return { 'done', result }
end
-- Several waits at a time are a hold of several lines. One that is left of an attempt before costs a look, no more.
local function is_held_by(hold)
  return string.find('\n' .. (hold_of(id) or '') .. '\n', '\n' .. hold .. '\n', 1, true) ~= nil
end
local function waits(hold)
  write(2, 0, struct.pack('<I6', till) .. document)
  if hold and not is_held_by(hold) then
    local other = hold_of(id)
    set_hold(id, other and other .. '\n' .. hold or hold)
  end
  flush()
  return { 'waits', string.format('%.0f', till) }
end
local is_over = till > 0 and till <= NOW

local function wait_for_signal()
  local mail = prefix .. ':signals:' .. id
  for nth, letter in ipairs(redis.call('LRANGE', mail, 0, -1)) do
    local used, sent_at, name, idem, payload = open_letter(letter)
    if used == 0 and name == about then
      redis.call('LSET', mail, nth - 1, struct.pack('<BI6Bc0Bc0', 1, sent_at, #name, name, #idem, idem))
      return ends(string.format('{"at":%.0f,"payload":', sent_at) .. payload .. '}')
    end
  end
  return is_over and ends('null') or waits('signal ' .. about)
end

local function look_at_answers()
  local mail = redis.call('LRANGE', prefix .. ':signals:' .. id, 0, -1)
  if #mail == seen and not is_over then return waits('signal ' .. about) end
  write(2, 0, struct.pack('<I6', till) .. document)
  flush()
  return { 'look', string.format('%.0f', NOW), string.format('%.0f', till), unpack(mail) }
end

local function wait_for_children()
  local family, pending, ended, spoiled, asked = children_key(id), {}, {}, false, {}
  for i = from, #ARGV do
    local child = ARGV[i]
    local word = redis.call('HGET', family, child)
    if not word then return { 'not_child', child } end
    -- One that is named twice ends once.
    local again = asked[child]
    asked[child] = true
    if not again and (word == 'pending' or word == 'waited') then
      pending[#pending + 1] = child
    elseif not again then
      ended[#ended + 1] = '{"id":"' .. child .. '","place":"' .. word .. '"}'
      spoiled = spoiled or word ~= 'succeeded'
    end
  end
  local fails = about == 'fail'
  if #pending == 0 or (what == 'any' and #ended > 0) or (what == 'all' and fails and spoiled) then
    return ends('[' .. table.concat(ended, ',') .. ']')
  end
  for _, child in ipairs(pending) do redis.call('HSET', family, child, 'waited') end
  local left = what == 'any' and 1 or #pending
  -- Two such waits at a time: the one that may end first counts. To be woken too early costs a look, too.
  local alone = not is_held_by('children')
  if not alone then left = math.min(left, tonumber(redis.call('HGET', family, '#left') or left)) end
  redis.call('HSET', family, '#left', left)
  if fails and what == 'all' then redis.call('HSET', family, '#fail', 1) elseif alone then redis.call('HDEL', family, '#fail') end
  return waits('children')
end

if what == 'time' then return is_over and ends('null') or waits(nil) end
if what == 'signal' then return wait_for_signal() end
if what == 'answers' then return look_at_answers() end
return wait_for_children()
