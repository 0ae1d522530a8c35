-- The answer to a claim that is remembered. Put before a verb; no KEYS, no ARGV of its own.

-- What a claim changes in a record.
local function claimed_part(r) return string.sub(pack_hot(r), CHANGING, CHANGING + CLAIMED_BYTES - 1) end

-- The answer to a claim that is sent again: what of it still runs under that claim, for a new lease.
local function again(last, lease_ms)
  local reply, nth = { string.format('%.0f', NOW), next_due() }, 0
  local base, ids = string.match(last, '^%d+ (%d+) (.*)$')
  for id in string.gmatch(ids, '%w+') do
    nth = nth + 1
    local r = load(id)
    if r and r.place == RUNNING and r.fence == tonumber(base) + nth then
      reply[#reply + 1] = id; reply[#reply + 1] = r.bytes; reply[#reply + 1] = claimed_part(r)
      gather(scores, INDEX[RUNNING], NOW + lease_ms, id)
    end
  end
  flush()
  return reply
end
