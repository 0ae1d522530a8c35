-- Ends a delivery attempt. KEYS prefix. ARGV time, endpoint, id, outcome (delivered | retry | exhausted), next_at, log, keep_ms, history_cap.
-- Reply: 'ok' | 'gone'. The log keeps the last 20 attempts; an ended delivery is kept `keep_ms` for the delivery list.
local endpoint, id, outcome, next_at, log = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local keep, cap = tonumber(ARGV[7]), tonumber(ARGV[8])
local key = delivery_key(endpoint, id)
if redis.call('EXISTS', key) == 0 then return 'gone' end
-- A sender that comes late does not send again what another has ended.
if redis.call('HGET', key, 'state') ~= 'pending' then return 'ok' end
-- Sent again after a lost reply it changes nothing, however late (E10): not the log, not a lease that another has taken since,
-- not a replay that somebody asked for meanwhile. No two attempts have the same line.
if redis.call('LPOS', key .. ':log', log) then return 'ok' end
redis.call('RPUSH', key .. ':log', log)
redis.call('LTRIM', key .. ':log', -20, -1)
if outcome == 'retry' then
  redis.call('ZADD', queue_key(endpoint), next_at, id)
else
  redis.call('HSET', key, 'state', outcome)
  redis.call('ZREM', queue_key(endpoint), id)
  redis.call('HINCRBY', COUNTERS, 'webhook_backlog', -1)
  redis.call('PEXPIRE', key, keep)
  redis.call('PEXPIRE', key .. ':log', keep)
end
trim_history(endpoint, cap, keep)
set_next_due(endpoint)
return 'ok'
