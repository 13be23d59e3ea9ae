"""Fields of a RunPod job that Forebay rejects. The gateway checks submissions with this table, and a pod checks
requests to its own /runsync."""

UNSUPPORTED_JOB_FIELDS = {
    "s3Config": "s3Config is not supported. Remove it, and read the output in the job's result.",
}
"""Field -> the error, with a remedy."""
