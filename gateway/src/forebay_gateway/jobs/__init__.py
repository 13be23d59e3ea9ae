"""RunPod's job API: /v2/ID/run, runsync, status, stream, cancel, retry, purge-queue and health.

`submission` reads what a client sends, `job` says what it gets, `store` keeps the jobs, `dispatch` has pods run them,
`runner` runs one at a pod, `api` answers the requests. The contract is RunPod's documentation of its serverless API.
"""
