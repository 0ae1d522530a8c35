-- Writes a document if its version is the expected one. KEYS prefix. ARGV time, registry, id, document, expected ('*' any, '0' new).
-- Reply {word, version}: ok | conflict.
local registry, id, document, expected = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local key = prefix .. ':registry:' .. registry
local held = redis.call('HGET', key, id)
local version = held and struct.unpack('<I4', held) or 0
if held and string.sub(held, 5) == document and tonumber(expected) == version - 1 then return { 'ok', version } end
if expected ~= '*' and tonumber(expected) ~= version then return { 'conflict', version } end
redis.call('HSET', key, id, struct.pack('<I4', version + 1) .. document)
return { 'ok', version + 1 }
