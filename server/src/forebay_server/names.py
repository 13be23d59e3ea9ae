"""The environment variables that are not simply a flag of vLLM: data, no code.

Sources: RunPod's documentation of its serverless vLLM workers and the code of worker-vllm, before and after 2026-07.
"""

ALIASES = {
    "MODEL_NAME": "MODEL",
    "MODEL_REVISION": "REVISION",
    "TOKENIZER_NAME": "TOKENIZER",
    "CUSTOM_CHAT_TEMPLATE": "CHAT_TEMPLATE",
    "OPENAI_SERVED_MODEL_NAME_OVERRIDE": "SERVED_MODEL_NAME",
    "OPENAI_RESPONSE_ROLE": "RESPONSE_ROLE",
}
"""RunPod's name -> the flag of vLLM that it sets."""

CONFIG_FILE = "VLLM_CONFIG_FILE"
EXTRA_ARGUMENTS = "VLLM_EXTRA_ARGS"

ZERO_IS_UNSET = frozenset({"MAX_MODEL_LEN", "MAX_NUM_BATCHED_TOKENS"})

LIBRARIES = {
    "HF_TOKEN": "the Hugging Face token for gated and private repositories",
    "HF_ENDPOINT": "the address of the Hugging Face hub, or of a mirror",
    "HF_HUB_OFFLINE": "1: use only files that are in the cache",
}
"""Read by the libraries from the environment itself. HF_TOKEN is a flag of vLLM too, but a secret is never put into
the process's arguments, where everyone on the machine can read it."""

RESERVED = {
    "HOST": "",
    "PORT": "",
    "HELP": "",
    "MODEL": "Set MODEL_NAME, or spec.model on the endpoint.",
    "CONFIG": f"Set {CONFIG_FILE} to the path of a config file of vLLM.",
    "API_KEY": "Keys come from the endpoint's Secret, see spec.auth.",
    "UDS": "The server listens on its port only.",
    "HEADLESS": "The server always serves HTTP.",
}
"""Names that are everyone's, so they never set a flag of vLLM; with what to do instead where one may be missed."""

REFUSED = {
    "HOST": "the Service reaches the server on every address of the pod",
    "PORT": "the Service reaches the server on its port 8000",
    "UDS": "the Service reaches the server by TCP",
    "HEADLESS": "the server has to serve HTTP",
    "GRPC": "the server has to serve HTTP",
    "GRPC_PORT": "a second way in would have no key check",
    "API_KEY": "keys come from the endpoint's Secret and are checked before vLLM",
    "API_SERVER_COUNT": "with more than one API server running streams are lost when the pod leaves",
    "ROOT_PATH": "the paths /v1 and /v2/<endpoint>/openai/v1 are fixed",
    "SSL_KEYFILE": "TLS ends before the pod",
    "SSL_CERTFILE": "TLS ends before the pod",
    "SSL_CA_CERTS": "TLS ends before the pod",
    "SSL_CERT_REQS": "TLS ends before the pod",
    "SSL_CIPHERS": "TLS ends before the pod",
    "ENABLE_SSL_REFRESH": "TLS ends before the pod",
}
"""Flags of vLLM that would switch off a promise of the endpoint -> why."""

REFUSED_VARIABLES = {
    "VLLM_API_KEY": "keys come from the endpoint's Secret and are checked before vLLM",
    "VLLM_USE_RUST_FRONTEND": "that front-end has no key check, no /v2 path and no drain",
    "VLLM_SERVER_DEV_MODE": "it opens routes that stop or change the server",
}
"""vLLM's own environment variables that would switch off a promise, when set to anything but "" and 0 -> why."""

REMOVED = {
    "CUDA_GRAPH_SIZES": "CUDAGRAPH_CAPTURE_SIZES",
    "DISABLE_LOG_REQUESTS": "ENABLE_LOG_REQUESTS=false, which is the default",
    "ENABLE_CHUNKED_CONTEXT": "ENABLE_CHUNKED_PREFILL",
    "GUIDED_DECODING_BACKEND": "STRUCTURED_OUTPUTS_CONFIG='{\"backend\": …}'",
    "LORA_EXTRA_VOCAB_SIZE": "",
    "MAX_CONTEXT_LEN_TO_CAPTURE": "MAX_CUDAGRAPH_CAPTURE_SIZE",
    "MAX_SEQ_LEN_TO_CAPTURE": "MAX_CUDAGRAPH_CAPTURE_SIZE",
    "NUM_LOOKAHEAD_SLOTS": "SPECULATIVE_CONFIG='{\"num_speculative_tokens\": …}'",
    "PREEMPTION_CHECK_PERIOD": "",
    "PREEMPTION_CPU_CAPACITY": "",
    "PREEMPTION_MODE": "",
    "QUANTIZATION_PARAM_PATH": "",
    "ROPE_SCALING": "HF_OVERRIDES='{\"rope_parameters\": …}'",
    "ROPE_THETA": "HF_OVERRIDES='{\"rope_parameters\": …}'",
    "SCHEDULER_DELAY_FACTOR": "",
    "SWAP_SPACE": "KV_OFFLOADING_SIZE",
    "TASK": "RUNNER or CONVERT",
    "TOKENIZER_POOL_EXTRA_CONFIG": "",
    "TOKENIZER_POOL_SIZE": "",
    "TOKENIZER_POOL_TYPE": "",
    "USE_V2_BLOCK_MANAGER": "",
    "WORKER_USE_RAY": "DISTRIBUTED_EXECUTOR_BACKEND=ray",
}
"""Flags that earlier versions of vLLM had -> what to set now ("": nothing takes its place). Warned about and ignored,
unless the vLLM of the image has such a flag."""

NOT_YET = frozenset(
    {
        "BATCH_SIZE_GROWTH_FACTOR",
        "DEFAULT_BATCH_SIZE",
        "DEFAULT_BATCH_SIZE_GROWTH_FACTOR",
        "DEFAULT_MIN_BATCH_SIZE",
        "MAX_CONCURRENCY",
        "MIN_BATCH_SIZE",
        "NGRAM_PROMPT_LOOKUP_MAX",
        "NGRAM_PROMPT_LOOKUP_MIN",
        "NUM_SPECULATIVE_TOKENS",
        "RAW_OPENAI_OUTPUT",
        "REQUEST_TIMEOUT",
        "SPECULATIVE_METHOD",
        "SPECULATIVE_MODEL",
        "VLLM_STARTUP_TIMEOUT",
    }
)
"""Names of RunPod's workers that have no effect here yet: warned about, never ignored in silence."""
