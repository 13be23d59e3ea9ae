"""RunPod's job API: /v2/ID/run, runsync, status, stream, cancel, retry, purge-queue and health.

`submission` reads what a client sends, and `job` says what it gets. `store` keeps the jobs, `dispatcher` gives them to
pods, `executor` follows them there by `pod_client`, and `http_api` answers the requests.

The contract is RunPod's documentation of its serverless API.
"""
