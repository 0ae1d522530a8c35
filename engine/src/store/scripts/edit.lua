-- Changes what a scheduled job will do and when. KEYS prefix.
-- ARGV time, id, expected seq ('' any), min_lead_ms ('' none), inclusive, run_at ('' unchanged), meta, args, note,
--   ticket id ('' none), ticket digest, ticket binding.
-- Reply {word, …}: edited seq | too_late | not_scheduled place | changed seq | ticket why left | gone. Events: edited.
local id, expected, lead, inclusive, run_at = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1', tonumber(ARGV[6])
local meta, args, note, ticket, digest, binding = ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12]
local r = load(id)
if not r then return { 'gone' } end
warm(r)
local fixed = r.identity_len + r.meta_len + r.args_len
local same_time = run_at == nil or run_at == r.run_at or (run_at <= NOW and r.run_at <= NOW)
local same = same_time and string.sub(r.body, r.identity_len + 1, fixed) == meta .. args
if same then return { 'edited', r.seq } end -- sent again after a lost reply, wherever the job is by now
if (r.place ~= SCHEDULED and r.place ~= BLOCKED) or has(r, JOURNAL) then return { 'not_scheduled', WORDS[r.place] } end
if expected and expected ~= r.seq then return { 'changed', r.seq } end
if too_close(r, lead, inclusive) then return { 'too_late' } end
local ticket_key = prefix .. ':ticket:' .. ticket
local refusal = ticket ~= '' and refuse_ticket(ticket_key, digest, binding, id)
if refusal then return refusal end
if ticket ~= '' then redis.call('DEL', ticket_key) end
step_out(r)
local tail = string.sub(r.body, fixed + 1)
r.body = string.sub(r.body, 1, r.identity_len) .. meta .. args .. tail
r.meta_len, r.args_len, r.rewritten = #meta, #args, true
r.run_at = run_at and math.max(run_at, NOW) or r.run_at
-- It is told where it goes from here.
r.place = r.run_at > NOW and SCHEDULED or READY
event(r, 'edited', note)
if r.run_at > NOW then
  -- What is planned for later keeps nothing from others until then.
  unlock(r)
  enter(r, SCHEDULED)
else
  enter_due(r)
end
flush()
return { 'edited', r.seq }
