-- Sends a signal to a job: kept until the job asks for it, counted once by its key. KEYS prefix.
-- ARGV time, id, name, key ('' none), payload, note, most signals of a job, most bytes of them.
-- Reply {word, place}: woken | kept | duplicate | final | full | gone. Events: signalled.
local id, name, idem, payload, note, most, most_bytes = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local r = load(id)
if not r then return { 'gone', '' } end
local mail = prefix .. ':signals:' .. id
local letters, bytes = redis.call('LRANGE', mail, 0, -1), #payload
for _, letter in ipairs(letters) do
  local _, _, other, key = open_letter(letter)
  if idem ~= '' and key == idem and other == name then return { 'duplicate', WORDS[r.place] } end
  bytes = bytes + #letter
end
if r.place == SUCCEEDED or r.place == CANCELLED or r.place == DEAD then return { 'final', WORDS[r.place] } end
if #letters >= most or bytes > most_bytes then return { 'full', WORDS[r.place] } end
redis.call('RPUSH', mail, struct.pack('<BI6Bc0Bc0', 0, NOW, #name, name, #idem, idem) .. payload)
event(r, 'signalled', note)
local waited_for = string.find('\n' .. (hold_of(id) or '') .. '\n', '\nsignal ' .. name .. '\n', 1, true)
if waited_for then wake(r) end
flush()
return { waited_for and 'woken' or 'kept', WORDS[r.place] }
