-- Part for scripts that take jobs in: each is written whole (record, place, index, event, outbox, allowance, ticket) or
-- refused whole. A wish is '' or packed idempotency key, digest, ttl, allowance, limit, resets_at, ticket id, digest, binding.
local function remembered(key, digest)
  local held = redis.call('GET', key)
  if not held then return nil end
  local id, first_digest = struct.unpack('Bc0Bc0', held)
  return { first_digest == digest and 'duplicate' or 'conflict', id }
end

local function refuse(r, wish, live, max_live)
  if wish == '' then return live >= max_live and { 'full', live } or nil end
  local idem, digest, ttl, allowance, limit, resets_at, ticket, ticket_digest, binding =
    struct.unpack('<Bc0Bc0I6Bc0I4I6Bc0Bc0Bc0', wish)
  local idem_key = prefix .. ':idempotency:' .. r.who.tenant .. ':' .. idem
  local refusal = idem ~= '' and remembered(idem_key, digest) or nil
  local ticket_key, allowance_key = prefix .. ':ticket:' .. ticket, prefix .. ':allowance:' .. allowance
  if not refusal and ticket ~= '' then refusal = refuse_ticket(ticket_key, ticket_digest, binding, r.id) end
  local used = tonumber(redis.call('GET', allowance_key) or 0)
  if not refusal and allowance ~= '' and used >= limit then refusal = { 'spent', used } end
  -- Last: jobs of the same call that were taken in may have filled the store by the time that it is sent again (E10).
  if not refusal and live >= max_live then refusal = { 'full', live } end
  if refusal then return refusal end
  if ticket ~= '' then redis.call('DEL', ticket_key) end
  if allowance ~= '' then redis.call('SET', allowance_key, used + 1, 'PX', math.max(resets_at - NOW, 0) + 86400000) end
  if idem ~= '' then redis.call('SET', idem_key, struct.pack('Bc0Bc0', #r.id, r.id, #digest, digest), 'PX', ttl) end
end

-- Takes one job in whose record is not there yet; nil when it is accepted, else why not.
local function take_in(id, head, tail, run_at, wish, live, max_live)
  local r = open(id, head .. tail)
  local refusal = refuse(r, wish, live, max_live)
  if refusal then return refusal end
  records[id], r.indexed = r, nil
  r.created_at, r.run_at = NOW, run_at > NOW and run_at or NOW
  warm(r)
  r.rewritten = true
  local line = line_of(r.who)
  r.chunk, line.added, line.list[#line.list + 1] = line.chunk, line.added + 1, id
  r.place = r.run_at > NOW and SCHEDULED or READY
  tell(r, 'accepted', '')
  if r.run_at > NOW then enter(r, SCHEDULED); tell(r, 'scheduled', '') else enter_due(r) end
end
