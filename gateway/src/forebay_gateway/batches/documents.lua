-- Documents in Valkey (or Redis 7): each step is one call of this script, and so whole.
--
-- forebay:shelf:ENDPOINT:KIND  hash    documents by name
-- forebay:kinds:ENDPOINT       set     the kinds that an endpoint has
-- forebay:shelved              zset    when a document goes; its members are ENDPOINT KIND NAME
-- forebay:shelved:sizes        hash    what a document takes in the memory of a gateway that reads it, by that member
-- forebay:shelved:bytes        number  what all documents take
-- forebay:shelved:bytes-of     hash    the same by namespace
-- forebay:bucket:bytes         number  what the objects in the bucket take, of which documents of some kinds tell
-- forebay:bucket:bytes-of      hash    the same by namespace
-- forebay:lease:NAME           string  which gateway has a lease

local PREFIX, OVERHEAD, BATCH = 'forebay:', 200, 500
local call = redis.call

local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function place_of(endpoint, kind)
  return PREFIX .. 'shelf:' .. endpoint .. ':' .. kind
end

local BUCKET_KINDS = {stored = true, progress = true}

-- The key of what documents of a kind take; with '-of' behind it by namespace.
local function bytes_of(kind)
  return PREFIX .. (BUCKET_KINDS[kind] and 'bucket:bytes' or 'shelved:bytes')
end

-- What the documents of a namespace take becomes so much more.
local function keep(endpoint, kind, by)
  local namespace, key = string.match(endpoint, '^[^/]*'), bytes_of(kind)
  -- below 0: what was kept before namespaces were counted
  if call('INCRBY', key, by) < 0 then call('SET', key, 0) end
  if call('HINCRBY', key .. '-of', namespace, by) <= 0 then call('HDEL', key .. '-of', namespace) end
end

local function member_of(endpoint, kind, name)
  return endpoint .. ' ' .. kind .. ' ' .. name
end

-- What a document takes, 0 where there is none. Another version of this script wrote no size.
local function size_of(endpoint, kind, name)
  local place = place_of(endpoint, kind)
  if call('HEXISTS', place, name) == 0 then return 0 end
  return call('HGET', PREFIX .. 'shelved:sizes', member_of(endpoint, kind, name))
    or call('HSTRLEN', place, name) + OVERHEAD
end

local steps = {}

-- 0 where there is no place: a namespace has `share` of what the others leave free. -1 as the most: there always is.
-- -1 where a lease is named that the gateway does not have.
function steps.put(endpoint, kind, name, most, share, after, size, text, lease, gateway)
  if lease ~= '' and call('GET', PREFIX .. 'lease:' .. lease) ~= gateway then return -1 end
  local by, member = size - size_of(endpoint, kind, name), member_of(endpoint, kind, name)
  local own = (call('HGET', bytes_of(kind) .. '-of', string.match(endpoint, '^[^/]*')) or 0) + 0
  local others = (call('GET', bytes_of(kind)) or 0) - own
  if own + by > share * (most - others) and by > 0 and most ~= '-1' then return 0 end
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

-- Some documents of a kind, and where to go on (0: nowhere).
function steps.some(endpoint, kind, cursor)
  return call('HSCAN', place_of(endpoint, kind), cursor, 'COUNT', BATCH)
end

-- Whether there was one.
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

-- Deletes those of some documents of a kind that are there.
function steps.discard(endpoint, kind, ...)
  for _, name in ipairs({...}) do steps.delete(endpoint, kind, name) end
end

-- Deletes some documents of a kind, or of any ('' for that); whether there may be more.
function steps.clear(endpoint, kind)
  local kinds = kind ~= '' and {kind} or call('SMEMBERS', PREFIX .. 'kinds:' .. endpoint)
  for _, each in ipairs(kinds) do
    local names = call('HRANDFIELD', place_of(endpoint, each), BATCH)
    for _, name in ipairs(names) do steps.delete(endpoint, each, name) end
    if #names > 0 then return 1 end
  end
  return 0
end

-- Deletes what has been kept long enough.
function steps.expire_documents()
  for _, member in ipairs(call('ZRANGEBYSCORE', PREFIX .. 'shelved', '-inf', now, 'LIMIT', 0, BATCH)) do
    steps.delete(string.match(member, '^(%S*) (%S*) (.*)$'))
  end
end

-- Whether this gateway has the lease from now on.
function steps.lease(name, gateway, after)
  local key = PREFIX .. 'lease:' .. name
  local holder = call('GET', key)
  if holder and holder ~= gateway then return 0 end
  call('SET', key, gateway, 'PX', after)
  return 1
end

return steps[ARGV[1]](unpack(ARGV, 2))
