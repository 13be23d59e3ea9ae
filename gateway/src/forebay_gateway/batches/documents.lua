-- Documents in Valkey (or Redis 7). Each step is one call of this script, and so atomic.
--
-- forebay:shelf:ENDPOINT:KIND  hash    documents by name
-- forebay:kinds:ENDPOINT       set     the kinds that an endpoint has
-- forebay:shelved              zset    documents (ENDPOINT KIND NAME) by the time at which they expire
-- forebay:shelved:sizes        hash    the size of a document in the memory of a gateway that reads it, by that member
-- forebay:shelved:bytes        number  the bytes of all documents
-- forebay:shelved:bytes-of     hash    the same by namespace
-- forebay:bucket:bytes         number  the bytes of the objects in the bucket that documents of some kinds list
-- forebay:bucket:bytes-of      hash    the same by namespace
-- forebay:lease:NAME           string  the gateway that holds a lease

local PREFIX, OVERHEAD, BATCH = 'forebay:', 200, 500
local call = redis.call

local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function place_of(endpoint, kind)
  return PREFIX .. 'shelf:' .. endpoint .. ':' .. kind
end

local BUCKET_KINDS = {stored = true, progress = true}

-- The key of the bytes of documents of a kind. With the suffix '-of' it is by namespace.
local function bytes_of(kind)
  return PREFIX .. (BUCKET_KINDS[kind] and 'bucket:bytes' or 'shelved:bytes')
end

-- Adds to the bytes of all documents and to those of the endpoint's namespace.
local function keep(endpoint, kind, by)
  local namespace, key = string.match(endpoint, '^[^/]*'), bytes_of(kind)
  -- below 0: these bytes are from before namespaces were counted
  if call('INCRBY', key, by) < 0 then call('SET', key, 0) end
  if call('HINCRBY', key .. '-of', namespace, by) <= 0 then call('HDEL', key .. '-of', namespace) end
end

local function member_of(endpoint, kind, name)
  return endpoint .. ' ' .. kind .. ' ' .. name
end

-- The size of a document, 0 where there is none. An older version of this script wrote no size.
local function size_of(endpoint, kind, name)
  local place = place_of(endpoint, kind)
  if call('HEXISTS', place, name) == 0 then return 0 end
  return call('HGET', PREFIX .. 'shelved:sizes', member_of(endpoint, kind, name))
    or call('HSTRLEN', place, name) + OVERHEAD
end

local steps = {}

-- Returns 0 where there is no room: a namespace may use `share` of the part of `max_bytes` that others do not use. With
-- `max_bytes` -1 there is always room. Returns -1 where the gateway does not hold the named lease.
function steps.put(endpoint, kind, name, max_bytes, share, after, size, text, lease, gateway)
  if lease ~= '' and call('GET', PREFIX .. 'lease:' .. lease) ~= gateway then return -1 end
  local by, member = size - size_of(endpoint, kind, name), member_of(endpoint, kind, name)
  local own = (call('HGET', bytes_of(kind) .. '-of', string.match(endpoint, '^[^/]*')) or 0) + 0
  local others = (call('GET', bytes_of(kind)) or 0) - own
  if own + by > share * (max_bytes - others) and by > 0 and max_bytes ~= '-1' then return 0 end
  keep(endpoint, kind, by)
  call('HSET', place_of(endpoint, kind), name, text)
  call('HSET', PREFIX .. 'shelved:sizes', member, size)
  call('SADD', PREFIX .. 'kinds:' .. endpoint, kind)
  call('ZADD', PREFIX .. 'shelved', now + after, member)
  return 1
end

function steps.get(endpoint, kind, name)
  return call('HGET', place_of(endpoint, kind), name)
end

-- Some documents of a kind, and the cursor to continue with (0: the end).
function steps.some(endpoint, kind, cursor)
  return call('HSCAN', place_of(endpoint, kind), cursor, 'COUNT', BATCH)
end

-- Deletes a document. Returns whether it existed.
function steps.delete(endpoint, kind, name)
  local place, member = place_of(endpoint, kind), member_of(endpoint, kind, name)
  if call('HEXISTS', place, name) == 0 then return 0 end
  keep(endpoint, kind, -size_of(endpoint, kind, name))
  call('ZREM', PREFIX .. 'shelved', member)
  call('HDEL', PREFIX .. 'shelved:sizes', member)
  call('HDEL', place, name)
  if call('EXISTS', place) == 0 then call('SREM', PREFIX .. 'kinds:' .. endpoint, kind) end
  return 1
end

-- Deletes some documents of a kind, whether they exist or not.
function steps.discard(endpoint, kind, ...)
  for _, name in ipairs({...}) do steps.delete(endpoint, kind, name) end
end

-- Deletes some documents of a kind ('' for all kinds). Returns whether there may be more.
function steps.clear(endpoint, kind)
  local kinds = kind ~= '' and {kind} or call('SMEMBERS', PREFIX .. 'kinds:' .. endpoint)
  for _, each in ipairs(kinds) do
    local names = call('HRANDFIELD', place_of(endpoint, each), BATCH)
    for _, name in ipairs(names) do steps.delete(endpoint, each, name) end
    if #names > 0 then return 1 end
  end
  return 0
end

-- Deletes expired documents.
function steps.expire_documents()
  for _, member in ipairs(call('ZRANGEBYSCORE', PREFIX .. 'shelved', '-inf', now, 'LIMIT', 0, BATCH)) do
    steps.delete(string.match(member, '^(%S*) (%S*) (.*)$'))
  end
end

-- Takes or renews a lease. Returns whether this gateway holds it.
function steps.lease(name, gateway, after)
  local key = PREFIX .. 'lease:' .. name
  local holder = call('GET', key)
  if holder and holder ~= gateway then return 0 end
  call('SET', key, gateway, 'PX', after)
  return 1
end

return steps[ARGV[1]](unpack(ARGV, 2))
