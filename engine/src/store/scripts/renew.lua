-- Lengthens leases. KEYS prefix. ARGV time, lease_ms, then per job: id, fence.
-- Reply per job: 'ok' | 'cancel' (held, but a cancel was asked for: how a worker learns of it when pub/sub is lost) | 'lost'.
local lease_ms = tonumber(ARGV[2])
local replies = {}
for i = 3, #ARGV, 2 do
  local id, fence = ARGV[i], tonumber(ARGV[i + 1])
  local head = redis.call('GETRANGE', record_key(id), 0, HOT_BYTES - 1)
  local held = #head == HOT_BYTES and string.byte(head, CHANGING + 1) == RUNNING and struct.unpack('<I6', head, CHANGING + 4) == fence
  if held then gather(scores, prefix .. ':leases', NOW + lease_ms, id) end
  replies[#replies + 1] = not held and 'lost' or bit.band(string.byte(head, 2), CANCEL) ~= 0 and 'cancel' or 'ok'
end
flush()
return replies
