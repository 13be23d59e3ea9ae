-- Requests of each operation of an endpoint, counted once for all gateways, by the clock of Valkey alone.
--
-- forebay:rate:NAME       number  requests in a window, which begins with the first
-- forebay:answering:NAME  zset    requests that are being answered, by when they count no more unless their gateway says so
--
-- NAME is OPERATION:NAMESPACE/ENDPOINT

local PREFIX = 'forebay:'
local call = redis.call

local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local steps = {}

-- Counts a request where it may go on, and then tells 0; else the ms after which another may come. 0 is no limit.
function steps.take(name, most, window, most_at_once, lease, token)
  local counted, answering = PREFIX .. 'rate:' .. name, PREFIX .. 'answering:' .. name
  if most_at_once + 0 > 0 then
    call('ZREMRANGEBYSCORE', answering, '-inf', now)
    if call('ZCARD', answering) >= most_at_once + 0 then return 1000 end
  end
  if most + 0 > 0 then
    local left = call('PTTL', counted)
    if left <= 0 then
      call('SET', counted, 0, 'PX', window)
      left = window + 0
    end
    if call('GET', counted) + 0 >= most + 0 then return left end
    call('INCR', counted)
  end
  if most_at_once + 0 > 0 then
    call('ZADD', answering, now + lease, token)
    call('PEXPIRE', answering, lease)
  end
  return 0
end

-- Goes on counting requests that are being answered, but for those that were released meanwhile.
function steps.renew(name, lease, ...)
  local answering = PREFIX .. 'answering:' .. name
  for _, token in ipairs({...}) do call('ZADD', answering, 'XX', now + lease, token) end
  call('PEXPIRE', answering, lease)
end

-- Counts them no more.
function steps.release(name, ...)
  call('ZREM', PREFIX .. 'answering:' .. name, ...)
end

return steps[ARGV[1]](unpack(ARGV, 2))
