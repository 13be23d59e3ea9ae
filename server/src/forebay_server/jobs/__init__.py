"""RunPod's jobs: {"input": …} in all its forms, answered with the output of its vLLM workers.

`calls` converts an input to a request to the OpenAI API. `transport` sends it within this process. `outputs` converts
the answer to the job's output. `runsync` answers POST /v2/<endpoint>/runsync by these three. Another runner of jobs
needs its own Transport, and gets the output item by item from `outputs.emit`.

Sources: RunPod's documentation of its serverless API; worker-vllm before 2026-07 (prompt, messages, openai_route) and
after (route, method, body).
"""
