-- Cancels a job wherever it is; a running one is asked to stop. KEYS prefix.
-- ARGV time, id, note, min_lead_ms ('' for none: no cut-off), inclusive (1: exactly the lead is still in time).
-- Reply {word, place}: cancelled | cancelling | too_late | final | unknown | gone. Events: cancelled, cancelling.
local id, note, lead, inclusive = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local r = load(id)
if not r then return { 'gone', '' } end
if r.place == CANCELLED then return { 'cancelled', WORDS[r.place] } end
if r.place == SUCCEEDED or r.place == DEAD then return { 'final', WORDS[r.place] } end
if r.place == UNKNOWN then return { 'unknown', WORDS[r.place] } end
if has(r, CANCEL) then return { 'cancelling', WORDS[r.place] } end
if has(r, SEALED) or too_close(r, lead, inclusive) then return { 'too_late', WORDS[r.place] } end
local word = cancel_job(r, note)
flush_cancel()
return { word, WORDS[r.place] }
