-- The jobs of all endpoints in Valkey (or Redis 7). Each step is one call of this script, and so atomic.
--
-- forebay:job:ID            hash    the fields of a job
-- forebay:job:ID:input      string  its input
-- forebay:job:ID:output     list    the items of its output
-- forebay:jobs:ENDPOINT     set     the IDs of an endpoint's jobs
-- forebay:queue:ENDPOINT:Q  stream  Q is again (lost by a pod or gateway: these go first), normal or low. A claimed job is
--                                   pending in the consumer group until it leaves IN_PROGRESS
-- forebay:pods:ENDPOINT     hash    the number of running jobs by pod
-- forebay:done:ENDPOINT     hash    the numbers of completed, failed and retried jobs
-- forebay:queued, :waiting, :running  hashes  the number of jobs by endpoint; waiting jobs may start pods
-- forebay:expiries          zset    jobs by the time at which they are deleted
-- forebay:webhooks          set     the endpoints with webhooks to deliver
-- forebay:webhooks:ENDPOINT zset    jobs with a webhook to deliver, by the time at which it is due. A gateway counts the
--                                   attempts. A claimed delivery is due again when its lease expires
-- forebay:bytes             number  the bytes of all jobs
-- forebay:bytes-of          hash    the same by namespace
-- forebay:sizes             hash    "ENDPOINT BYTES" by job, to free the bytes of a job whose own hash is lost
-- forebay:swept             number  the time of the last reap_stalled
-- forebay:told              channel messages for other gateways: queued ENDPOINT, output ID, ended ID
--
-- Each claim of a job or of a delivery has a token. With a lost claim a gateway can change nothing any more.

local PREFIX, GROUP = 'forebay:', 'gateways'
local QUEUES = {'again', 'normal', 'low'}
local FINAL = {COMPLETED = true, FAILED = true, CANCELLED = true, TIMED_OUT = true}
local BATCH, ITEM = 200, 200
local KEPT_FOR_WEBHOOK = 3600000 -- ms after its end for which an expired job is kept until its webhook is delivered
local call = redis.call

local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function notify(event, name)
  call('PUBLISH', PREFIX .. 'told', event .. ' ' .. name)
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

-- Adds to a counter of an endpoint or a pod. A counter of 0 is deleted.
local function count(key, field, by)
  local left = call('HINCRBY', key, field, by)
  if left == 0 then call('HDEL', key, field) end
  return left
end

local function keep_until(id, moment)
  call('ZADD', PREFIX .. 'expiries', moment, id)
end

-- Adds to the bytes of all jobs and to those of the endpoint's namespace.
local function keep(endpoint, by)
  -- below 0: these bytes are from before namespaces were counted, so they were never added
  local namespace = string.match(endpoint, '^[^/]*')
  if call('INCRBY', PREFIX .. 'bytes', by) < 0 then call('SET', PREFIX .. 'bytes', 0) end
  if count(PREFIX .. 'bytes-of', namespace, by) < 0 then call('HDEL', PREFIX .. 'bytes-of', namespace) end
end

-- Whether a namespace may keep `by` bytes more. It may use `share` of the part of `max_bytes` that others do
-- not use.
local function has_room(endpoint, by, max_bytes, share)
  local own = (call('HGET', PREFIX .. 'bytes-of', string.match(endpoint, '^[^/]*')) or 0) + 0
  local others = (call('GET', PREFIX .. 'bytes') or 0) - own
  return own + by <= share * (max_bytes - others)
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
  if count(PREFIX .. 'queued', job.endpoint, 1) == 1 then notify('queued', job.endpoint) end
end

local function dequeue(job)
  count(PREFIX .. 'queued', job.endpoint, -1)
  if job.low == '0' then count(PREFIX .. 'waiting', job.endpoint, -1) end
end

-- Removes a job from its queue, and its claim.
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
  notify('ended', id)
end

local function drop(id, endpoint, size)
  keep(endpoint, -size)
  unschedule_delivery(id, endpoint)
  call('DEL', key_of(id), key_of(id) .. ':input', key_of(id) .. ':output')
  call('ZREM', PREFIX .. 'expiries', id)
  call('SREM', PREFIX .. 'jobs:' .. endpoint, id)
  call('HDEL', PREFIX .. 'sizes', id)
end

-- Deletes the rest of a job whose hash was evicted or deleted. For a job from an older version of this
-- script the size is unknown.
local function drop_remains(id, endpoint)
  local found, size = string.match(call('HGET', PREFIX .. 'sizes', id) or '', '^(%S+) (%d+)$')
  drop(id, found or endpoint or '', size or 0)
end

-- The same for a queued or running job. Its pod is known only from the other jobs.
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

-- Hides a job whose webhook is still to be delivered, and deletes what the delivery does not need.
local function hide(id, job)
  set(id, 'hidden', 1)
  call('DEL', key_of(id) .. ':input')
  call('SREM', PREFIX .. 'jobs:' .. job.endpoint, id)
  keep_until(id, (job.finished or now) + KEPT_FOR_WEBHOOK)
end

local undelivered = 0

-- Ends a job, if it is not over, and deletes it. A job whose webhook is not delivered is first hidden, and deleted later.
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

-- The job, unless it belongs to another endpoint or is hidden.
local function find(id, endpoint)
  local job = read(id)
  if job and job.endpoint == endpoint and job.hidden ~= '1' then return job end
end

local steps = {}

-- Returns 1 where the job is queued now or was before; 0 where there is no room for it.
function steps.submit(id, max_bytes, share, input, ...)
  if call('EXISTS', key_of(id)) == 1 then return 1 end
  set(id, 'created', now, 'attempts', 0, 'told', 0, 'size', 0, ...)
  local job = read(id)
  local size = job.bytes + 0
  if not has_room(job.endpoint, size, max_bytes, share) then
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

-- Returns ID and fields of a job, with the output of a completed one. An output of more than `max_bytes` is omitted, and its
-- size is returned.
local function describe(id, job, max_bytes)
  local size = job.state == 'COMPLETED' and job.size - job.bytes or 0
  local larger = size > max_bytes + 0
  local output = size > 0 and not larger and call('LRANGE', key_of(id) .. ':output', 0, -1) or {}
  return {id, call('HGETALL', key_of(id)), output, larger and size or 0}
end

function steps.find(id, endpoint, max_bytes)
  local job = find(id, endpoint)
  return job and describe(id, job, max_bytes) or false
end

-- Returns the next items, up to `max_bytes`, whether there are more, and the size of the next item where it alone has more.
-- A repeated call has the same call_id and gets the same items.
function steps.take_stream(id, endpoint, max_bytes, call_id)
  local job = find(id, endpoint)
  if not job then return false end
  local from = (job.taken_by == call_id and job.taken_from or job.told) + 0
  local items, size, streamed, more, larger = {}, 0, from, 0, 0
  while more == 0 do
    local found = call('LRANGE', key_of(id) .. ':output', streamed, streamed + 49)
    if #found == 0 then break end
    for _, item in ipairs(found) do
      if size + #item + ITEM > max_bytes + 0 and (#items > 0 or #item > max_bytes + 0) then
        more, larger = 1, #items == 0 and #item or 0
        break
      end
      items[#items + 1], size, streamed = item, size + #item + ITEM, streamed + 1
    end
  end
  if #items > 0 then set(id, 'told', streamed, 'taken_from', from, 'taken_by', call_id) end
  return {job.state, more, items, larger, from} -- `from`: how many items were taken before
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

-- Claims a job for the pod with the fewest jobs, if one has room. Returns how many are still queued, and the job with its
-- input. A pod has the form "HOST PORT NAME".
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

-- Renews claims of jobs and of deliveries, each an ID and a token. Returns the IDs of lost ones.
function steps.renew_claims(lease, ...)
  local lost, claims = {}, {...}
  for i = 1, #claims, 2 do
    local job = read(claims[i])
    if job and job.state == 'IN_PROGRESS' and job.token == claims[i + 1] then
      call('XCLAIM', queue_of(job.endpoint, job.queue), GROUP, GROUP, 0, job.entry, 'JUSTID')
    elseif job and job.webhook_token == claims[i + 1] then
      call('ZADD', webhooks_of(job.endpoint), 'XX', now + lease, claims[i])
    else
      lost[#lost + 1] = claims[i]
    end
  end
  return lost
end

local function claimed(id, token)
  local job = read(id)
  if job and job.token == token and job.state == 'IN_PROGRESS' then return job end
end

-- Queues a claimed job again. `blamed` is 1 where the job may be the cause.
function steps.requeue(id, token, blamed)
  local job = claimed(id, token)
  if not job then return 0 end
  if blamed == '0' then set(id, 'attempts', job.attempts - 1) end
  put_back(id, job)
  return 1
end

-- Appends items after the first `from` ones. A repeated call adds nothing. Returns -1 where there is no room, 0 where some
-- of the first items are missing.
local function append(id, job, from, max_bytes, share, items)
  local key = key_of(id) .. ':output'
  local skip, size = call('LLEN', key) - from, 0
  if skip < 0 then return 0 end
  for i = skip + 1, #items do size = size + #items[i] end
  if size > 0 and not has_room(job.endpoint, size, max_bytes, share) then return -1 end
  for i = skip + 1, #items do call('RPUSH', key, items[i]) end
  resize(id, job, size)
  return 1
end

-- Returns 0 where the claim is lost, -1 where there is no room.
function steps.add_output(id, token, max_bytes, share, from, ...)
  local job = claimed(id, token)
  if not job then return 0 end
  local added = append(id, job, from, max_bytes, share, {...})
  if added == 1 then notify('output', id) end
  return added
end

-- Ends a claimed job, with the last items of its output. Returns the time of its end, also for a repeated call. Returns 0
-- where the claim is lost, -1 where there is no room.
function steps.finish(id, token, state, why, max_bytes, share, from, ...)
  local job = read(id)
  if job and job.token == token and job.state == state then return job.finished + 0 end
  if not (job and claimed(id, token)) then return 0 end
  local added = append(id, job, from, max_bytes, share, {...})
  if added == 1 then
    finish(id, job, state, why)
    return now
  end
  return added
end

-- Returns 1 where this call ended the job; nil where there is no such job.
function steps.cancel(id, endpoint)
  local job = find(id, endpoint)
  if not job then return false end
  if FINAL[job.state] then return 0 end
  finish(id, job, 'CANCELLED', '')
  return 1
end

-- Queues a failed job again. Returns its state before; nil where there is no such job. A repeated call has the same call_id.
function steps.retry(id, endpoint, api_key, call_id)
  local job = find(id, endpoint)
  if not job then return false end
  if job.retried_by == call_id then return 'FAILED' end
  if job.state == 'FAILED' or job.state == 'TIMED_OUT' then
    call('HINCRBY', PREFIX .. 'done:' .. endpoint, 'retried', 1)
    forget_output(id, job)
    unschedule_delivery(id, endpoint) -- the job is no longer over
    call('HDEL', key_of(id), 'started', 'finished', 'token')
    set(id, 'error', '', 'attempts', 0, 'created', now, 'api_key', api_key, 'retried_by', call_id)
    keep_until(id, now + job.ttl)
    enqueue(id, job)
  end
  return job.state
end

-- Deletes some of the jobs of a queue. Returns the entry after which to continue ('' at the end), and the ended jobs.
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

-- Ends and deletes some jobs of a deleted endpoint. Returns whether there may be more, and the ended jobs.
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

-- Keeps the result of an ended job for `after` ms, but not past its time to live.
function steps.expire(id, endpoint, after)
  local job = find(id, endpoint)
  if job and FINAL[job.state] then keep_until(id, math.min(now + after, job.created + job.ttl)) end
end

-- Ends jobs whose time is over, and queues jobs of dead gateways again. Where this has not run for a while, because Valkey
-- was away, no gateway could renew its claims. Then all claims get another lease.
-- Returns the numbers of queued, waiting and running jobs by endpoint, the ended jobs, the number of jobs queued again, the
-- endpoints with due webhooks, and the number of webhooks that were given up.
function steps.reap_stalled(lease, max_attempts)
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
          elseif job.attempts + 0 >= max_attempts + 0 then
            finish(id, job, 'FAILED', max_attempts .. ' pods or gateways were lost while they ran the job.')
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
