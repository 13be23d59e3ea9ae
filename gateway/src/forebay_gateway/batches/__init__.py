"""OpenAI's Batch API over the queue of jobs: files of requests in, files of answers out.

`objects` and `jsonl` define batches and the lines of their files. `document_store` keeps both, in memory or in Valkey.
`processor` makes each line of an input file a job. `http_api` answers requests.
"""
