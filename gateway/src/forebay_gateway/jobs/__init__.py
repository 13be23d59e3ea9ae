"""RunPod's job API: /v2/ID/run, runsync, status, stream, cancel, retry, purge-queue and health.

`submission` parses requests, and `job` renders answers. `store` keeps the jobs. `dispatcher` assigns them to pods, and
`executor` runs them there through `pod_client`. `http_api` answers the requests.

The contract is RunPod's documentation of its serverless API.
"""
