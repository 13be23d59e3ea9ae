"""How operator and gateway reach a pod, and what its end says."""

API_PORT = 8000
"""The OpenAI API: what the endpoint's Service exposes."""

OPS_PORT = 8001
"""Probes, startup report, metrics and engine control: never exposed by the Service."""

EXIT_CONFIGURATION = 78
"""Exit status of a server that another start would not help: EX_CONFIG of sysexits.h."""

WORKER_ID = "x-runpod-worker-id"
"""On an answer that the gateway relays: the pod's name. A request that has it goes to this pod again."""

JOB_LINES = "application/x-ndjson"
"""What the gateway accepts from /runsync, to get a job's output as it comes to be: one JSON object a line."""
