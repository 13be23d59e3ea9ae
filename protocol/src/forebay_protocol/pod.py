"""The interface of a pod to operator and gateway: ports, exit status, headers.

The server implements it, the operator configures and polls it, and the gateway calls it.
"""

API_PORT = 8000
"""The port of the OpenAI API, which the endpoint's Service exposes."""

OPS_PORT = 8001
"""The port of probes, startup report, metrics and engine control. The Service never exposes it."""

EXIT_CONFIGURATION = 78
"""Exit status of a server that a restart would not fix: EX_CONFIG of sysexits.h."""

WORKER_ID = "x-runpod-worker-id"
"""Header with the pod's name. Answers have this header. The gateway sends a request with this header to the named
pod."""

JOB_LINES = "application/x-ndjson"
"""The media type by which the gateway gets the items of a job's output from /runsync one by one, as lines of JSON."""
