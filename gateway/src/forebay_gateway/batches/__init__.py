"""OpenAI's Batch API over the queue of jobs: files of requests in, files of answers out.

`records` and `lines` say what a batch is and what is in its files; `shelf` keeps both, in memory or in Valkey; `worker`
makes each line of an input file a job; `api` answers requests.
"""
