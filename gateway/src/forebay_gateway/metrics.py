"""Prometheus metrics of the gateway. Their number does not grow with the number of endpoints."""

from prometheus_client import Counter, Gauge, Histogram

from forebay_kube.loop_lag import LoopLag

ANSWERS = Counter(
    "forebay_gateway_answers",
    "Requests by result: relayed, answered by the gateway with a status, or left (the client disconnected).",
    ["outcome"],
)
UNREADABLE = Counter(
    "forebay_gateway_unreadable_objects",
    "Objects of the API server that the gateway ignored, because it could not read them.",
    ["resource"],
)
HELD = Gauge("forebay_gateway_held_requests", "Requests that wait for a pod.")
RELAYED = Gauge("forebay_gateway_relayed_requests", "Requests that a pod is answering.")
HELD_SECONDS = Histogram(
    "forebay_gateway_held_seconds",
    "How long requests waited for a pod before one took them.",
    buckets=(0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600),
)
LOOP_LAG = LoopLag("forebay_gateway", interval=0.05)
JOBS = Counter("forebay_gateway_jobs", "Jobs that came to an end, by their last state.", ["state"])
JOBS_WAITING = Gauge("forebay_gateway_waiting_jobs", "Jobs that wait for a pod and may start one, of all gateways.")
JOBS_RUNNING = Gauge("forebay_gateway_running_jobs", "Jobs that pods run for this gateway.")
JOB_DELAY = Histogram(
    "forebay_gateway_job_delay_seconds",
    "How long jobs that came to an end had waited for a pod.",
    buckets=(0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600),
)
JOB_EXECUTION = Histogram(
    "forebay_gateway_job_execution_seconds",
    "How long pods ran jobs that came to an end.",
    buckets=(0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 3600),
)
REQUEUED = Counter(
    "forebay_gateway_requeued_jobs",
    "Jobs that went back to the queue, as their pod was busy, unreachable or lost, or their gateway was lost.",
    ["why"],
)
BATCHES = Counter("forebay_gateway_batches", "Batches that came to an end, by their last state.", ["status"])
WEBHOOKS = Counter(
    "forebay_gateway_webhooks", "Jobs that ended and have a webhook; result is delivered or failed.", ["result"]
)
WAKES = Counter("forebay_gateway_wakes", "Endpoints scaled from 0 to 1; result is done, raced or error.", ["result"])
KEPT_BYTES = Gauge("forebay_gateway_kept_bytes", "Bodies and answers in memory until they are taken.")
CONNECTIONS = Gauge("forebay_gateway_connections", "Clients that are connected.")
