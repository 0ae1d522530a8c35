-- From here on a running job undoes what it did: no step begins but undos. KEYS prefix. ARGV time, id, fence, failure ('' for a cancel,
-- be it asked for or the job's own).
-- The undos get fresh attempts; the failure is kept and told when all is undone. Reply: ok | stale. Events: undoing.
local id, fence, failure = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local r = load(id)
if not r or r.place ~= RUNNING or r.fence ~= fence then return 'stale' end
if not has(r, UNDOING) then
  set(r, UNDOING)
  if failure == '' then set(r, CANCEL) end
  put_outcome(r, '', failure)
  r.attempt = 1
  event(r, 'undoing', '')
  flush()
end
return 'ok'
