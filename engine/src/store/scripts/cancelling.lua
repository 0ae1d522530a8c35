-- Part for scripts that cancel: one job, wherever it is. A running one is asked to stop; one with undos registered goes to a
-- worker once more, to undo, and one with an open Once step, to find out whether that happened. An unknown one stays so, and is
-- cancelled by who resolves it. Its children follow by cascade. Reply: cancelled | cancelling.
local asked = {}
local function cancel_job(r, note)
  if has(r, FAMILY) then redis.call('RPUSH', prefix .. ':cascade', r.id) end
  local rests = r.place ~= RUNNING and r.place ~= UNKNOWN
  if rests and not has(r, UNDO) and not has(r, ONCE_OPEN) then
    step_out(r)
    finish(r, CANCELLED, 'cancelled', note)
    unlock(r)
    return 'cancelled'
  end
  set(r, CANCEL)
  local goes_on = rests and r.place ~= READY
  if goes_on then
    step_out(r)
    r.place = READY
  end
  event(r, 'cancelling', note)
  if goes_on then enter_due(r) elseif r.place == RUNNING then asked[#asked + 1] = r.id end
  return 'cancelling'
end

local function flush_cancel()
  flush()
  for _, id in ipairs(asked) do redis.call('PUBLISH', prefix .. ':cancel', id) end
end
