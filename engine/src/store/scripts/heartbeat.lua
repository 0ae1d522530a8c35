-- A worker says that it lives; the dead are dropped from the list. KEYS prefix. ARGV time, worker, document ('' says goodbye), ttl_ms.
-- Reply: the store's time.
local worker, document, ttl = ARGV[2], ARGV[3], tonumber(ARGV[4])
local seen, docs = prefix .. ':workers', prefix .. ':worker_docs'
if document == '' then
  redis.call('ZREM', seen, worker)
  redis.call('HDEL', docs, worker)
else
  redis.call('ZADD', seen, NOW + ttl, worker)
  redis.call('HSET', docs, worker, document)
end
local gone = redis.call('ZRANGEBYSCORE', seen, '-inf', string.format('%.0f', NOW), 'LIMIT', 0, 100)
if #gone > 0 then
  redis.call('ZREM', seen, unpack(gone))
  redis.call('HDEL', docs, unpack(gone))
end
return string.format('%.0f', NOW)
