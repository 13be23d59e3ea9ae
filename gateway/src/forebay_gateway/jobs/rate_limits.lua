-- Requests of each operation of an endpoint, counted once for all gateways, by the clock of Valkey alone.
--
-- forebay:rate:NAME       number  allotted requests of a window, which begins with the first one
-- forebay:answering:NAME  hash    "SLOTS MOMENT" by gateway: its slots for concurrent requests, until that moment
--
-- NAME is OPERATION:NAMESPACE/ENDPOINT. A repeated step returns the same, but may allot requests that are never used.

local PREFIX = 'forebay:'
local call = redis.call

local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function set_slots(name, gateway, slots, lease)
  local answering = PREFIX .. 'answering:' .. name
  call('HSET', answering, gateway, string.format('%d %d', slots, now + lease))
  call('PEXPIRE', answering, lease)
end

-- The slots of the other live gateways.
local function slots_of_others(name, gateway)
  local answering, sum = PREFIX .. 'answering:' .. name, 0
  local flat = call('HGETALL', answering)
  for i = 1, #flat, 2 do
    local slots, moment = string.match(flat[i + 1], '^(%d+) (%d+)$')
    if flat[i] ~= gateway and moment + 0 > now then sum = sum + slots end
    if moment + 0 <= now then call('HDEL', answering, flat[i]) end
  end
  return sum
end

local steps = {}

-- Allots up to `wanted` of the requests that are left of `limit` in this window, and up to `slots`, at least `needed`, of
-- `max_concurrent` slots. A limit of 0 means no limit. Returns 1, the requests, the ms until they expire, and the slots.
-- Where there are too few, it returns 0 and the ms until a retry.
function steps.allot(name, gateway, wanted, limit, window, needed, slots, max_concurrent, lease, busy)
  if max_concurrent + 0 > 0 then
    slots = math.min(slots, max_concurrent - slots_of_others(name, gateway))
    if slots < needed + 0 then return {0, busy + 0} end
  end
  local left = 0
  if wanted + 0 > 0 and limit + 0 > 0 then
    local counted = PREFIX .. 'rate:' .. name
    left = call('PTTL', counted)
    if left <= 0 then
      call('SET', counted, 0, 'PX', window)
      left = window + 0
    end
    wanted = math.min(wanted, limit - call('GET', counted))
    if wanted <= 0 then return {0, left} end
    call('INCRBY', counted, wanted)
  end
  if max_concurrent + 0 > 0 then set_slots(name, gateway, slots, lease) end
  return {1, wanted + 0, left, slots + 0}
end

-- Reduces the slots of a gateway.
function steps.reduce(name, gateway, slots, lease)
  if slots + 0 > 0 then
    set_slots(name, gateway, slots, lease)
  else
    call('HDEL', PREFIX .. 'answering:' .. name, gateway)
  end
end

-- Renews the slots of a gateway for these names. Where they are lost, it gets the slots that follow the name.
function steps.renew(gateway, lease, ...)
  local held = {...}
  for i = 1, #held, 2 do
    local slots = string.match(call('HGET', PREFIX .. 'answering:' .. held[i], gateway) or '', '^%d+')
    set_slots(held[i], gateway, slots or held[i + 1], lease)
  end
end

return steps[ARGV[1]](unpack(ARGV, 2))
