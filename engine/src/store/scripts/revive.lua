-- Sends a dead or cancelled job back to work with fresh attempts, not before its planned time; finished steps stay finished. KEYS prefix. ARGV time, id, note.
-- Reply {word, place}: revived | not_final | gone. Events: revived.
local id, note = ARGV[2], ARGV[3]
local r = load(id)
if not r then return { 'gone', '' } end
if r.place ~= DEAD and r.place ~= CANCELLED then return { 'not_final', WORDS[r.place] } end
leave(r)
if r.reason == QUIET_END then
  write_down_start(r)
  write_down(r, r.place == DEAD and 'failed' or 'cancelled', r.seq, r.finished_at, '')
end
clear(r, CANCEL)
clear(r, SEALED)
put_outcome(r, '', '')
r.attempt, r.run_at, r.finished_at = 0, math.max(r.run_at, NOW), 0
event(r, 'revived', note)
if r.run_at > NOW then enter(r, SCHEDULED) else enter_due(r) end
flush()
return { 'revived', WORDS[r.place] }
