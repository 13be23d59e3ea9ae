"""What Prometheus is told of the gateway. None of it grows with the number of endpoints."""

from prometheus_client import Counter, Gauge, Histogram

ANSWERS = Counter(
    "forebay_gateway_answers",
    "Requests by what became of them: relayed, or answered by the gateway with a status; left: the client went away.",
    ["outcome"],
)
HELD = Gauge("forebay_gateway_held_requests", "Requests that wait for a pod.")
RELAYED = Gauge("forebay_gateway_relayed_requests", "Requests that a pod is answering.")
HELD_SECONDS = Histogram(
    "forebay_gateway_held_seconds",
    "How long requests waited for a pod before one took them.",
    buckets=(0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600),
)
JOBS = Counter("forebay_gateway_jobs", "Jobs that came to an end, by their last state.", ["state"])
WEBHOOKS = Counter(
    "forebay_gateway_webhooks", "Jobs whose end a webhook was to be told; result is delivered or failed.", ["result"]
)
WAKES = Counter("forebay_gateway_wakes", "Endpoints scaled from 0 to 1; result is done, raced or error.", ["result"])
KEPT_BYTES = Gauge("forebay_gateway_kept_bytes", "Bodies of requests in memory.")
CONNECTIONS = Gauge("forebay_gateway_connections", "Clients that are connected.")
