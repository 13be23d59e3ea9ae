-- The jobs of all endpoints in Valkey (or Redis 7): each step is one call of this script, and so whole.
--
-- forebay:job:ID            hash    what is known of a job
-- forebay:job:ID:input      string  its input
-- forebay:job:ID:output     list    the items of its output
-- forebay:jobs:ENDPOINT     set     the IDs of an endpoint's jobs
-- forebay:queue:ENDPOINT:Q  stream  Q is again (a pod or gateway is gone: these go first), normal or low. What a gateway
--                                   has claimed is pending in the consumer group until the job leaves IN_PROGRESS
-- forebay:pods:ENDPOINT     hash    how many jobs run at each pod
-- forebay:done:ENDPOINT     hash    how many completed, failed, were retried
-- forebay:queued, :waiting, :running  hashes  how many jobs, by endpoint; waiting are those that may start pods
-- forebay:expiries          zset    when nothing is left of a job
-- forebay:webhooks          set     the endpoints that have webhooks to deliver
-- forebay:webhooks:ENDPOINT zset    the jobs whose webhook is to be delivered, by when that is due. It counts as tried when a
--                                   gateway says so; what one has claimed is due again when its lease is over
-- forebay:bytes             number  what all jobs keep
-- forebay:bytes-of          hash    the same by namespace
-- forebay:sizes             hash    "ENDPOINT BYTES" by job, to free what a job kept whose own hash is lost
-- forebay:swept             number  when reap_stalled ran last
-- forebay:told              channel what others may wait for: queued ENDPOINT, output ID, ended ID
--
-- A claim has a token, of a delivery too. Who has lost it, to another gateway or to the job's end, can change nothing any more.

local PREFIX, GROUP = 'forebay:', 'gateways'
local QUEUES = {'again', 'normal', 'low'}
local FINAL = {COMPLETED = true, FAILED = true, CANCELLED = true, TIMED_OUT = true}
local BATCH, ITEM = 200, 200
local KEPT_FOR_WEBHOOK = 3600000 -- ms after its end for which a job that is gone is kept until its webhook is delivered
local call = redis.call

local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function tell(word, what)
  call('PUBLISH', PREFIX .. 'told', word .. ' ' .. what)
end

local function key_of(id)
  return PREFIX .. 'job:' .. id
end

local function webhooks_of(endpoint)
  return PREFIX .. 'webhooks:' .. endpoint
end

local function queue_of(endpoint, name)
  return PREFIX .. 'queue:' .. endpoint .. ':' .. name
end

local function read(id)
  local flat = call('HGETALL', key_of(id))
  if #flat == 0 then return nil end
  local job = {}
  for i = 1, #flat, 2 do job[flat[i]] = flat[i + 1] end
  return job
end

local function set(id, ...)
  call('HSET', key_of(id), ...)
end

-- How many there are of something, by endpoint or pod; what is none is not kept.
local function count(key, field, by)
  local left = call('HINCRBY', key, field, by)
  if left == 0 then call('HDEL', key, field) end
  return left
end

local function keep_until(id, moment)
  call('ZADD', PREFIX .. 'expiries', moment, id)
end

-- What the jobs of an endpoint keep, with those of its namespace, becomes so much more.
local function keep(endpoint, by)
  -- what was kept before namespaces were counted goes, but was never added to theirs
  local namespace = string.match(endpoint, '^[^/]*')
  if call('INCRBY', PREFIX .. 'bytes', by) < 0 then call('SET', PREFIX .. 'bytes', 0) end
  if count(PREFIX .. 'bytes-of', namespace, by) < 0 then call('HDEL', PREFIX .. 'bytes-of', namespace) end
end

-- Whether a namespace may keep so much more: `share` of what the others leave free of `most`.
local function has_place(endpoint, by, most, share)
  local own = (call('HGET', PREFIX .. 'bytes-of', string.match(endpoint, '^[^/]*')) or 0) + 0
  local others = (call('GET', PREFIX .. 'bytes') or 0) - own
  return own + by <= share * (most - others)
end

local function resize(id, job, by)
  call('HSET', PREFIX .. 'sizes', id, job.endpoint .. ' ' .. call('HINCRBY', key_of(id), 'size', by))
  keep(job.endpoint, by)
end

local function enqueue(id, job, name)
  name = name or (job.low == '1' and 'low' or 'normal')
  local stream = queue_of(job.endpoint, name)
  if call('EXISTS', stream) == 0 then call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM') end
  set(id, 'state', 'IN_QUEUE', 'queue', name, 'entry', call('XADD', stream, '*', 'id', id, 'low', job.low))
  if job.low == '0' then count(PREFIX .. 'waiting', job.endpoint, 1) end
  if count(PREFIX .. 'queued', job.endpoint, 1) == 1 then tell('queued', job.endpoint) end
end

local function dequeue(job)
  count(PREFIX .. 'queued', job.endpoint, -1)
  if job.low == '0' then count(PREFIX .. 'waiting', job.endpoint, -1) end
end

-- It is queued no more, and nobody's: not to be claimed, not to run.
local function leave(job)
  local stream = queue_of(job.endpoint, job.queue)
  call('XACK', stream, GROUP, job.entry)
  call('XDEL', stream, job.entry)
  if job.state == 'IN_QUEUE' then
    dequeue(job)
  else
    count(PREFIX .. 'running', job.endpoint, -1)
    count(PREFIX .. 'pods:' .. job.endpoint, job.pod, -1)
  end
end

local function forget_output(id, job)
  call('DEL', key_of(id) .. ':output')
  resize(id, job, job.bytes - call('HGET', key_of(id), 'size'))
  set(id, 'told', 0)
end

local function put_back(id, job)
  leave(job)
  forget_output(id, job)
  call('HDEL', key_of(id), 'started', 'token')
  enqueue(id, job, 'again')
end

local function schedule_delivery(id, endpoint, moment)
  call('ZADD', webhooks_of(endpoint), moment, id)
  call('SADD', PREFIX .. 'webhooks', endpoint)
end

local function unschedule_delivery(id, endpoint)
  call('ZREM', webhooks_of(endpoint), id)
  call('HDEL', key_of(id), 'webhook_tries', 'webhook_token')
  if call('EXISTS', webhooks_of(endpoint)) == 0 then call('SREM', PREFIX .. 'webhooks', endpoint) end
end

local function finish(id, job, state, why)
  leave(job)
  if state == 'COMPLETED' then call('HINCRBY', PREFIX .. 'done:' .. job.endpoint, 'completed', 1) end
  if state == 'FAILED' or state == 'TIMED_OUT' then call('HINCRBY', PREFIX .. 'done:' .. job.endpoint, 'failed', 1) end
  set(id, 'state', state, 'error', why, 'finished', now)
  keep_until(id, math.min(now + job.kept, job.created + job.ttl))
  if (job.webhook or '') ~= '' then schedule_delivery(id, job.endpoint, now) end
  tell('ended', id)
end

local function drop(id, endpoint, size)
  keep(endpoint, -size)
  unschedule_delivery(id, endpoint)
  call('DEL', key_of(id), key_of(id) .. ':input', key_of(id) .. ':output')
  call('ZREM', PREFIX .. 'expiries', id)
  call('SREM', PREFIX .. 'jobs:' .. endpoint, id)
  call('HDEL', PREFIX .. 'sizes', id)
end

-- What is left of a job whose hash is gone, as it was evicted or somebody deleted it. What one kept that another version
-- of this script took in is not known.
local function drop_remains(id, endpoint)
  local found, size = string.match(call('HGET', PREFIX .. 'sizes', id) or '', '^(%S+) (%d+)$')
  drop(id, found or endpoint or '', size or 0)
end

-- The same for one that is queued, or that runs: at which pod only the others tell.
local function lose(endpoint, name, entry, runs)
  local stream, id, low = queue_of(endpoint, name), entry[2][2], entry[2][4] == '1' or name == 'low'
  entry = entry[1]
  call('XACK', stream, GROUP, entry)
  call('XDEL', stream, entry)
  drop_remains(id, endpoint)
  if not runs then
    count(PREFIX .. 'queued', endpoint, -1)
    if not low then count(PREFIX .. 'waiting', endpoint, -1) end
    return
  end
  count(PREFIX .. 'running', endpoint, -1)
  call('DEL', PREFIX .. 'pods:' .. endpoint)
  for _, other in ipairs(call('SMEMBERS', PREFIX .. 'jobs:' .. endpoint)) do
    local job = read(other)
    if job and job.state == 'IN_PROGRESS' then count(PREFIX .. 'pods:' .. endpoint, job.pod, 1) end
  end
end

local function snapshot(id)
  return {id, call('HGETALL', key_of(id))}
end

-- Nothing is left of a job but what its webhook is to be told; in the end not even that.
local function hide(id, job)
  set(id, 'hidden', 1)
  call('DEL', key_of(id) .. ':input')
  call('SREM', PREFIX .. 'jobs:' .. job.endpoint, id)
  keep_until(id, (job.finished or now) + KEPT_FOR_WEBHOOK)
end

local undelivered = 0

-- Nothing is left of a job, which ends before where it had not ended. One whose webhook is not delivered is hidden first.
local function discard(id, state, why, ended, endpoint)
  local job = read(id)
  if not job then return drop_remains(id, endpoint) end
  if not FINAL[job.state] then
    finish(id, job, state, why)
    ended[#ended + 1] = snapshot(id)
  end
  if call('ZSCORE', webhooks_of(job.endpoint), id) then
    if job.hidden ~= '1' then return hide(id, job) end
    undelivered = undelivered + 1
  end
  drop(id, job.endpoint, job.size)
end

-- The job, where it belongs to the endpoint.
local function find(id, endpoint)
  local job = read(id)
  if job and job.endpoint == endpoint and job.hidden ~= '1' then return job end
end

local steps = {}

-- 1 where it is taken in, or was already; 0 where there is no place for it.
function steps.submit(id, most, share, input, ...)
  if call('EXISTS', key_of(id)) == 1 then return 1 end
  set(id, 'created', now, 'attempts', 0, 'told', 0, 'size', 0, ...)
  local job = read(id)
  local size = job.bytes + 0
  if not has_place(job.endpoint, size, most, share) then
    call('DEL', key_of(id))
    return 0
  end
  call('SET', key_of(id) .. ':input', input)
  call('SADD', PREFIX .. 'jobs:' .. job.endpoint, id)
  resize(id, job, size)
  keep_until(id, now + job.ttl)
  enqueue(id, job)
  return 1
end

-- What is told of a job, with the output of one that is completed, and the bytes of an output that is left out as it has
-- more than so many.
local function describe(id, job, most)
  local size = job.state == 'COMPLETED' and job.size - job.bytes or 0
  local larger = size > most + 0
  local output = size > 0 and not larger and call('LRANGE', key_of(id) .. ':output', 0, -1) or {}
  return {id, call('HGETALL', key_of(id)), output, larger and size or 0}
end

function steps.find(id, endpoint, most)
  local job = find(id, endpoint)
  return job and describe(id, job, most) or false
end

-- The items that were not told yet, up to so many bytes, whether there are more, and the bytes of the next where it alone
-- has more. call_id is the same for a call that is made again, which gets the same items.
function steps.take_stream(id, endpoint, most, call_id)
  local job = find(id, endpoint)
  if not job then return false end
  local from = (job.taken_by == call_id and job.taken_from or job.told) + 0
  local items, size, told, more, larger = {}, 0, from, 0, 0
  while more == 0 do
    local found = call('LRANGE', key_of(id) .. ':output', told, told + 49)
    if #found == 0 then break end
    for _, item in ipairs(found) do
      if size + #item + ITEM > most + 0 and (#items > 0 or #item > most + 0) then
        more, larger = 1, #items == 0 and #item or 0
        break
      end
      items[#items + 1], size, told = item, size + #item + ITEM, told + 1
    end
  end
  if #items > 0 then set(id, 'told', told, 'taken_from', from, 'taken_by', call_id) end
  return {job.state, more, items, larger, from} -- and how many were told before
end

function steps.counts(endpoint)
  local found = {}
  for i, what in ipairs({'queued', 'waiting', 'running'}) do found[i] = call('HGET', PREFIX .. what, endpoint) or 0 end
  for i, what in ipairs(call('HMGET', PREFIX .. 'done:' .. endpoint, 'completed', 'failed', 'retried')) do
    found[3 + i] = what or 0
  end
  found[7] = call('HLEN', PREFIX .. 'pods:' .. endpoint)
  return found
end

-- How many are queued after this, and a job with its input where a pod has room for it: the one with the fewest. A pod is
-- told as "HOST PORT NAME".
function steps.claim(endpoint, token, at_once, ...)
  local pod, worker, least
  for _, each in ipairs({...}) do
    local address, name = string.match(each, '^(%S+ %S+) (%S*)$')
    local at = (call('HGET', PREFIX .. 'pods:' .. endpoint, address) or 0) + 0
    if at < at_once + 0 and (not least or at < least) then pod, worker, least = address, name, at end
  end
  local function queued() return call('HGET', PREFIX .. 'queued', endpoint) or 0 end
  for _, name in ipairs(pod and QUEUES or {}) do
    local stream = queue_of(endpoint, name)
    while call('EXISTS', stream) == 1 do
      local found = call('XREADGROUP', 'GROUP', GROUP, GROUP, 'COUNT', 1, 'STREAMS', stream, '>')
      if not found then break end
      local entry = found[1][2][1]
      local id = entry[2][2]
      local job, input = read(id), call('GET', key_of(id) .. ':input')
      if job and input then
        dequeue(job)
        count(PREFIX .. 'running', endpoint, 1)
        count(PREFIX .. 'pods:' .. endpoint, pod, 1)
        set(id, 'state', 'IN_PROGRESS', 'started', now, 'token', token, 'attempts', job.attempts + 1)
        set(id, 'pod', pod, 'worker', worker)
        return {queued(), id, call('HGETALL', key_of(id)), input}
      elseif job then
        finish(id, job, 'FAILED', 'Its input is lost: it was evicted or deleted in Valkey.')
      else
        lose(endpoint, name, entry, false)
      end
    end
  end
  return {queued()}
end

-- Holds on to claims of jobs and of deliveries, each an ID and a token; the IDs of those that are lost.
function steps.renew_claims(lease, ...)
  local lost, asked = {}, {...}
  for i = 1, #asked, 2 do
    local job = read(asked[i])
    if job and job.state == 'IN_PROGRESS' and job.token == asked[i + 1] then
      call('XCLAIM', queue_of(job.endpoint, job.queue), GROUP, GROUP, 0, job.entry, 'JUSTID')
    elseif job and job.webhook_token == asked[i + 1] then
      call('ZADD', webhooks_of(job.endpoint), 'XX', now + lease, asked[i])
    else
      lost[#lost + 1] = asked[i]
    end
  end
  return lost
end

local function claimed(id, token)
  local job = read(id)
  if job and job.token == token and job.state == 'IN_PROGRESS' then return job end
end

-- blamed is 1 where the job may be the reason.
function steps.requeue(id, token, blamed)
  local job = claimed(id, token)
  if not job then return 0 end
  if blamed == '0' then set(id, 'attempts', job.attempts - 1) end
  put_back(id, job)
  return 1
end

-- Appends items to the first `from` ones: a call that is made again adds nothing. -1 where there is no place, 0 where some
-- of the first are missing.
local function append(id, job, from, most, share, items)
  local key = key_of(id) .. ':output'
  local skip, size = call('LLEN', key) - from, 0
  if skip < 0 then return 0 end
  for i = skip + 1, #items do size = size + #items[i] end
  if size > 0 and not has_place(job.endpoint, size, most, share) then return -1 end
  for i = skip + 1, #items do call('RPUSH', key, items[i]) end
  resize(id, job, size)
  return 1
end

-- 0 where the claim is lost, -1 where there is no place.
function steps.add_output(id, token, most, share, from, ...)
  local job = claimed(id, token)
  if not job then return 0 end
  local added = append(id, job, from, most, share, {...})
  if added == 1 then tell('output', id) end
  return added
end

-- Ends a job that this claim has, with the last items of its output, and tells when; so does the same call once more.
-- 0 where the claim is lost, -1 where there is no place.
function steps.finish(id, token, state, why, most, share, from, ...)
  local job = read(id)
  if job and job.token == token and job.state == state then return job.finished + 0 end
  if not (job and claimed(id, token)) then return 0 end
  local added = append(id, job, from, most, share, {...})
  if added == 1 then
    finish(id, job, state, why)
    return now
  end
  return added
end

-- 1 where this ended it; nil where there is no such job.
function steps.cancel(id, endpoint)
  local job = find(id, endpoint)
  if not job then return false end
  if FINAL[job.state] then return 0 end
  finish(id, job, 'CANCELLED', '')
  return 1
end

-- The state in which it was found; nil where there is no such job. call_id is the same for a call that is made again.
function steps.retry(id, endpoint, api_key, call_id)
  local job = find(id, endpoint)
  if not job then return false end
  if job.retried_by == call_id then return 'FAILED' end
  if job.state == 'FAILED' or job.state == 'TIMED_OUT' then
    call('HINCRBY', PREFIX .. 'done:' .. endpoint, 'retried', 1)
    forget_output(id, job)
    unschedule_delivery(id, endpoint) -- of an end that is none any more
    call('HDEL', key_of(id), 'started', 'finished', 'token')
    set(id, 'error', '', 'attempts', 0, 'created', now, 'api_key', api_key, 'retried_by', call_id)
    keep_until(id, now + job.ttl)
    enqueue(id, job)
  end
  return job.state
end

-- Forgets some of the queued jobs of a queue, and tells after which entry to go on ('' for none) and what they were.
function steps.purge(endpoint, name, after)
  local stream, gone, last = queue_of(endpoint, name), {}, ''
  local found = call('XRANGE', stream, after, '+', 'COUNT', BATCH)
  for _, each in ipairs(found) do
    local id = each[2][2]
    local job = read(id)
    if not job then
      lose(endpoint, name, each, #call('XPENDING', stream, GROUP, each[1], each[1], 1) > 0)
    elseif job.state == 'IN_QUEUE' then
      discard(id, 'CANCELLED', '', gone)
    end
    last = '(' .. each[1]
  end
  return {#found == BATCH and last or '', gone}
end

-- The endpoint is gone: ends and forgets some of its jobs. Whether there may be more, and what was ended.
function steps.forget(endpoint)
  local ended, ids = {}, call('SRANDMEMBER', PREFIX .. 'jobs:' .. endpoint, BATCH)
  for _, id in ipairs(ids) do discard(id, 'CANCELLED', '', ended, endpoint) end
  if #ids == 0 then
    for _, name in ipairs(QUEUES) do call('DEL', queue_of(endpoint, name)) end
    call('DEL', PREFIX .. 'done:' .. endpoint, PREFIX .. 'pods:' .. endpoint)
    for _, what in ipairs({'queued', 'waiting', 'running'}) do call('HDEL', PREFIX .. what, endpoint) end
  end
  return {#ids, ended}
end

-- Keeps a final result so much longer, but not past its time to live.
function steps.expire(id, endpoint, after)
  local job = find(id, endpoint)
  if job and FINAL[job.state] then keep_until(id, math.min(now + after, job.created + job.ttl)) end
end

-- What nobody does by itself: ends what is over its time, queues what was claimed by a gateway that is gone. Where nobody
-- has done this for a while, as Valkey was away, nobody could renew a claim either: then all claims get another lease.
-- How many jobs of each endpoint are queued, may start pods, and run; what was ended; how many were queued again; which
-- endpoints have webhooks that are due, and how many were given up.
function steps.reap_stalled(lease, most_attempts)
  local ended, again = {}, 0
  for _, id in ipairs(call('ZRANGEBYSCORE', PREFIX .. 'expiries', '-inf', now, 'LIMIT', 0, BATCH)) do
    discard(id, 'TIMED_OUT', "The job's time to live has expired.", ended)
  end
  local last = call('GET', PREFIX .. 'swept')
  call('SET', PREFIX .. 'swept', now)
  local extend = not last or now - last > lease / 2
  for _, endpoint in ipairs(call('HKEYS', PREFIX .. 'running')) do
    for _, name in ipairs(QUEUES) do
      local stream, cursor = queue_of(endpoint, name), '0-0'
      while extend and call('EXISTS', stream) == 1 do
        cursor = call('XAUTOCLAIM', stream, GROUP, GROUP, 0, cursor, 'COUNT', BATCH, 'JUSTID')[1]
        if cursor == '0-0' then break end
      end
      while not extend and call('EXISTS', stream) == 1 do
        local found = call('XAUTOCLAIM', stream, GROUP, GROUP, lease, cursor, 'COUNT', BATCH)
        for _, each in ipairs(found[2]) do
          local id = each[2][2]
          local job = read(id)
          if not job then
            lose(endpoint, name, each, true)
          elseif job.attempts + 0 >= most_attempts + 0 then
            finish(id, job, 'FAILED', most_attempts .. ' pods or gateways were lost while they ran the job.')
            ended[#ended + 1] = snapshot(id)
          else
            put_back(id, job)
            again = again + 1
          end
        end
        cursor = found[1]
        if cursor == '0-0' then break end
      end
    end
  end
  local counts = {}
  for i, what in ipairs({'queued', 'waiting', 'running'}) do counts[i] = call('HGETALL', PREFIX .. what) end
  local due = {}
  for _, endpoint in ipairs(call('SMEMBERS', PREFIX .. 'webhooks')) do
    if call('ZCOUNT', webhooks_of(endpoint), '-inf', now) > 0 then due[#due + 1] = endpoint end
  end
  return {counts, ended, again, due, undelivered}
end
