-- Sends a dead or cancelled job back to work with fresh attempts, not before its planned time; finished steps stay finished,
-- unless all were undone; an undo that failed goes on. A parked job (its code changed) goes to work as it is. A parent that has
-- not ended waits for it again. KEYS prefix. ARGV time, id, note, request.
-- Reply {word, place}: revived | not_final | gone. Events: revived.
local id, note, request = ARGV[2], ARGV[3], ARGV[4]
local before = answered(request)
if before then return { before[1], before[2] } end
local r = load(id)
if not r then return { 'gone', '' } end
if r.place == BLOCKED and r.reason == CODE_CHANGED then
  leave(r)
  r.place = READY
  event(r, 'revived', note)
  enter_due(r)
  flush()
  return answer(request, 'revived', WORDS[r.place])
end
if r.place ~= DEAD and r.place ~= CANCELLED then return { 'not_final', WORDS[r.place] } end
if r.place == DEAD then count_unit(r, 1) end
local parent = r.who.parent ~= '' and load(r.who.parent)
if parent and parent.place ~= SUCCEEDED and parent.place ~= CANCELLED and parent.place ~= DEAD then
  redis.call('HSET', children_key(parent.id), id, 'pending')
end
-- Its entry among the ended stays where it is, and another may come behind it: prune is told that this one is void.
-- How many there are of all jobs stands beside them, under the empty name.
for _, name in ipairs({ id, '' }) do redis.call('HINCRBY', prefix .. ':void:' .. WORDS[r.place] .. ':' .. r.who.kind, name, 1) end
leave(r)
if r.reason == QUIET_END then
  write_down_start(r)
  write_down(r, r.place == DEAD and 'failed' or 'cancelled', r.seq, r.finished_at, '')
end
if not has(r, UNDO) then clear(r, CANCEL) end
for _, flag in ipairs({ SEALED, CLOSING, CLOSING_AGAIN }) do clear(r, flag) end
if has(r, UNDOING) and not has(r, UNDO) then
  for _, flag in ipairs({ UNDOING, JOURNAL, ONCE_OPEN, FENCED }) do clear(r, flag) end
  redis.call('DEL', prefix .. ':steps:' .. id)
  redis.call('HDEL', prefix .. ':extras:' .. id, 'journal')
end
-- An undo that goes on keeps the error that it is for.
if not (has(r, UNDOING) and has(r, UNDO)) then put_outcome(r, '', '') end
r.attempt, r.run_at, r.finished_at = 0, math.max(r.run_at, NOW), 0
-- Who hears of it is told where it goes: a dead job it is no more.
r.place = r.run_at > NOW and SCHEDULED or READY
event(r, 'revived', note)
if r.run_at > NOW then enter(r, SCHEDULED) else enter_due(r) end
flush()
return answer(request, 'revived', WORDS[r.place])
