-- Steps of jobs.lua: the deliveries of webhooks, one for each job that is over and has a webhook.

-- The delivery of an endpoint that is due longest, and how often it was tried, for this token as long as that is renewed;
-- before that how many more are due. The output is left out where it has more than `most` bytes.
function steps.claim_delivery(endpoint, token, lease, most)
  local due = webhooks_of(endpoint)
  for _, id in ipairs(call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, BATCH)) do
    local job = read(id)
    if job and FINAL[job.state] then
      call('ZADD', due, now + lease, id)
      set(id, 'webhook_token', token)
      return {call('ZCOUNT', due, '-inf', now), job.webhook_tries or 0, describe(id, job, most)}
    end
    unschedule_delivery(id, endpoint) -- evicted, or dropped or tried again by a gateway of the release before
  end
  return {call('ZCOUNT', due, '-inf', now)}
end

-- The job of a delivery that this token has.
local function delivered(id, token)
  local job = read(id)
  if job and job.webhook_token == token then return job end
end

-- What is to be told, with an output of up to `most` bytes; nil where the claim is lost.
function steps.read_delivery(id, token, most)
  local job = delivered(id, token)
  return job and describe(id, job, most) or false
end

-- It is due so long from now; `tried` is 1 where the receiver was asked.
function steps.postpone_delivery(id, token, after, tried)
  local job = delivered(id, token)
  if not job then return end
  call('HINCRBY', key_of(id), 'webhook_tries', tried)
  call('HDEL', key_of(id), 'webhook_token')
  schedule_delivery(id, job.endpoint, now + after)
end

-- Nothing more is to be delivered.
function steps.end_delivery(id, token)
  local job = delivered(id, token)
  if not job then return end
  unschedule_delivery(id, job.endpoint)
  if job.hidden == '1' then drop(id, job.endpoint, job.size) end
end
