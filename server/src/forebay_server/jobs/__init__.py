"""RunPod's jobs: {"input": …} in all its forms, answered with the output of its vLLM workers.

`calls` says which request to the OpenAI API an input stands for, `outputs` makes the job's output of the answer,
`transport` carries the one to the other within this process, `runsync` answers POST /v2/<endpoint>/runsync with them.
Whoever runs jobs elsewhere brings another Transport and takes the output item by item from `outputs.emit`.

Sources: RunPod's documentation of its serverless API; worker-vllm before 2026-07 (prompt, messages, openai_route) and
after (route, method, body).
"""
