-- Steps of jobs.lua: the deliveries of webhooks, one for each job that is over and has a webhook.

-- Claims the delivery of an endpoint that has been due longest, for as long as the claim is renewed. Returns how many more
-- are due, the number of earlier attempts, and the job. An output of more than `max_bytes` is omitted.
function steps.claim_delivery(endpoint, token, lease, max_bytes)
  local due = webhooks_of(endpoint)
  for _, id in ipairs(call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, BATCH)) do
    local job = read(id)
    if job and FINAL[job.state] then
      call('ZADD', due, now + lease, id)
      set(id, 'webhook_token', token)
      return {call('ZCOUNT', due, '-inf', now), job.webhook_tries or 0, describe(id, job, max_bytes)}
    end
    unschedule_delivery(id, endpoint) -- evicted, or dropped or retried by a gateway of the previous release
  end
  return {call('ZCOUNT', due, '-inf', now)}
end

-- The job of a delivery, where this token has claimed it.
local function delivered(id, token)
  local job = read(id)
  if job and job.webhook_token == token then return job end
end

-- The job of a claimed delivery, with an output of up to `max_bytes`; nil where the claim is lost.
function steps.read_delivery(id, token, max_bytes)
  local job = delivered(id, token)
  return job and describe(id, job, max_bytes) or false
end

-- Makes a claimed delivery due in `after` ms. `tried` is 1 where the attempt counts.
function steps.postpone_delivery(id, token, after, tried)
  local job = delivered(id, token)
  if not job then return end
  call('HINCRBY', key_of(id), 'webhook_tries', tried)
  call('HDEL', key_of(id), 'webhook_token')
  schedule_delivery(id, job.endpoint, now + after)
end

-- Ends a claimed delivery.
function steps.end_delivery(id, token)
  local job = delivered(id, token)
  if not job then return end
  unschedule_delivery(id, job.endpoint)
  if job.hidden == '1' then drop(id, job.endpoint, job.size) end
end
