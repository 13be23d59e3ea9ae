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

ZERO_IS_UNSET = frozenset(
    {
        "MAX_CPU_LORAS",
        "MAX_MODEL_LEN",
        "MAX_NUM_BATCHED_TOKENS",
        "MAX_PARALLEL_LOADING_WORKERS",
        "NUM_GPU_BLOCKS_OVERRIDE",
    }
)
"""Flags of which the worker's templates carry a 0 that vLLM would refuse."""

NEEDS = {
    "LORA_MODULES": "ENABLE_LORA=true",
    "DEFAULT_MM_LORAS": "ENABLE_LORA=true",
    "ENABLE_AUTO_TOOL_CHOICE": "TOOL_CALL_PARSER",
    "ENABLE_LOG_OUTPUTS": "ENABLE_LOG_REQUESTS=true",
}
"""Flags that do not work without another, which vLLM itself says only after it has loaded the model, if at all."""

REGISTERED = {
    "LOAD_FORMAT": "",
    "QUANTIZATION": "",
    "REASONING_PARSER": "REASONING_PARSER_PLUGIN",
    "TOOL_CALL_PARSER": "TOOL_PARSER_PLUGIN",
}
"""Flags that vLLM's parser takes any text for and that must be a name which vLLM, or a plugin, knows -> the flag that
names a file with more of them, read later."""

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
    "PORT_HEALTH": "Kubernetes checks the server's health on its port 8001.",
    "VLLM_PORT": "The server listens on its port 8000. For vLLM this is the port of its own processes.",
}
"""Names that are everyone's, so they never set a flag of vLLM; with what to do instead where one may be missed.

RunPod's pod templates set the last two; Kubernetes sets VLLM_PORT too, to a URL, where a Service is called vllm.
"""

UNSET = ("VLLM_PORT",)
"""Those that vLLM would read from the environment itself."""

REFUSED_FLAGS = {
    "HOST": "the Service reaches the server on every address of the pod",
    "PORT": "the Service reaches the server on its port 8000",
    "UDS": "the Service reaches the server by TCP",
    "HEADLESS": "the server has to serve HTTP",
    "GRPC": "the server has to serve HTTP",
    "GRPC_PORT": "a second way in would have no key check",
    "API_KEY": "keys come from the endpoint's Secret and are checked before vLLM",
    "API_SERVER_COUNT": "with several API servers, running streams are lost when the pod shuts down",
    "ROOT_PATH": "the paths /v1 and /v2/<endpoint>/openai/v1 are fixed",
    "SSL_KEYFILE": "TLS ends before the pod",
    "SSL_CERTFILE": "TLS ends before the pod",
    "SSL_CA_CERTS": "TLS ends before the pod",
    "SSL_CERT_REQS": "TLS ends before the pod",
    "SSL_CIPHERS": "TLS ends before the pod",
    "ENABLE_SSL_REFRESH": "TLS ends before the pod",
}
"""Flags of vLLM that would switch off a promise of the endpoint -> why."""

REFUSED_ENVIRONMENT = {
    "VLLM_API_KEY": "keys come from the endpoint's Secret and are checked before vLLM",
    "VLLM_USE_RUST_FRONTEND": "that front-end has no key check, no /v2 path and no drain",
    "VLLM_SERVER_DEV_MODE": "it opens routes that stop or change the server",
}
"""vLLM's own environment variables that would switch off a promise, when set to anything but "" and 0 -> why."""

REMOVED = {
    "CUDA_GRAPH_SIZES": "CUDAGRAPH_CAPTURE_SIZES",
    "DEVICE": "",
    "DISABLE_FRONTEND_MULTIPROCESSING": "",
    "DISABLE_LOGPROBS_DURING_SPEC_DECODING": "",
    "DISABLE_LOG_REQUESTS": "ENABLE_LOG_REQUESTS=false, which is the default",
    "DISABLE_MM_PREPROCESSOR_CACHE": "MM_PROCESSOR_CACHE_GB=0",
    "ENABLE_CHUNKED_CONTEXT": "ENABLE_CHUNKED_PREFILL",
    "ENABLE_LORA_BIAS": "",
    "ENABLE_MULTIMODAL_ENCODER_DATA_PARALLEL": "MM_ENCODER_TP_MODE=data",
    "ENABLE_PROMPT_ADAPTER": "",
    "EPLB_LOG_BALANCEDNESS": "EPLB_CONFIG='{\"log_balancedness\": …}'",
    "EPLB_STEP_INTERVAL": "EPLB_CONFIG='{\"step_interval\": …}'",
    "EPLB_WINDOW_SIZE": "EPLB_CONFIG='{\"window_size\": …}'",
    "GUIDED_DECODING_BACKEND": "STRUCTURED_OUTPUTS_CONFIG='{\"backend\": …}'",
    "GUIDED_DECODING_DISABLE_ADDITIONAL_PROPERTIES": (
        "STRUCTURED_OUTPUTS_CONFIG='{\"disable_additional_properties\": …}'"
    ),
    "GUIDED_DECODING_DISABLE_ANY_WHITESPACE": "STRUCTURED_OUTPUTS_CONFIG='{\"disable_any_whitespace\": …}'",
    "GUIDED_DECODING_DISABLE_FALLBACK": "",
    "LOGITS_PROCESSOR_PATTERN": "LOGITS_PROCESSORS",
    "LONG_LORA_SCALING_FACTORS": "",
    "LORA_EXTRA_VOCAB_SIZE": "",
    "MAX_CONTEXT_LEN_TO_CAPTURE": "MAX_CUDAGRAPH_CAPTURE_SIZE",
    "MAX_SEQ_LEN_TO_CAPTURE": "MAX_CUDAGRAPH_CAPTURE_SIZE",
    "MAX_LONG_PARTIAL_PREFILLS": "",
    "MAX_NUM_PARTIAL_PREFILLS": "",
    "MAX_PROMPT_ADAPTERS": "",
    "MAX_PROMPT_ADAPTER_TOKEN": "",
    "MULTI_STEP_STREAM_OUTPUTS": "",
    "NUM_LOOKAHEAD_SLOTS": "SPECULATIVE_CONFIG='{\"num_speculative_tokens\": …}'",
    "NUM_REDUNDANT_EXPERTS": "EPLB_CONFIG='{\"num_redundant_experts\": …}'",
    "NUM_SCHEDULER_STEPS": "",
    "OVERRIDE_POOLER_CONFIG": "POOLER_CONFIG",
    "PREEMPTION_CHECK_PERIOD": "",
    "PREEMPTION_CPU_CAPACITY": "",
    "PREEMPTION_MODE": "",
    "QLORA_ADAPTER_NAME_OR_PATH": "LORA_MODULES",
    "QUANTIZATION_PARAM_PATH": "",
    "ROPE_SCALING": "HF_OVERRIDES='{\"rope_parameters\": …}'",
    "ROPE_THETA": "HF_OVERRIDES='{\"rope_parameters\": …}'",
    "SCHEDULER_DELAY_FACTOR": "",
    "SPECULATIVE_DISABLE_BY_BATCH_SIZE": "",
    "SPEC_DECODING_ACCEPTANCE_METHOD": "SPECULATIVE_CONFIG='{\"rejection_sample_method\": …}'",
    "SWAP_SPACE": "KV_OFFLOADING_SIZE",
    "TASK": "RUNNER or CONVERT",
    "TOKENIZER_POOL_EXTRA_CONFIG": "",
    "TOKENIZER_POOL_SIZE": "",
    "TOKENIZER_POOL_TYPE": "",
    "TRANSFORMERS_VERSION": "",
    "TYPICAL_ACCEPTANCE_SAMPLER_POSTERIOR_ALPHA": "",
    "TYPICAL_ACCEPTANCE_SAMPLER_POSTERIOR_THRESHOLD": "",
    "USE_V2_BLOCK_MANAGER": "",
    "VLLM_ATTENTION_BACKEND": "ATTENTION_BACKEND",
    "WORKER_USE_RAY": "DISTRIBUTED_EXECUTOR_BACKEND=ray",
}
"""Flags that earlier versions of vLLM, or RunPod's workers, had -> what to set now ("": nothing takes its place).
Warned about and ignored, unless the vLLM of the image has such a flag."""
