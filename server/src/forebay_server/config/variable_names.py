"""Tables of environment variables that are more than a flag of vLLM. Data, no code.

Sources: RunPod's documentation of its serverless vLLM workers and the code of worker-vllm, before and after 2026-07.
The flags that no variable may set are in forebay_protocol.refused_flags.
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
ENDPOINT_ARGUMENTS = "FOREBAY_ARGS"
"""The operator sets this variable to a JSON list with the words of spec.args."""

ZERO_IS_UNSET = frozenset(
    {
        "MAX_CPU_LORAS",
        "MAX_MODEL_LEN",
        "MAX_NUM_BATCHED_TOKENS",
        "MAX_PARALLEL_LOADING_WORKERS",
        "NUM_GPU_BLOCKS_OVERRIDE",
    }
)
"""Flags that the worker's templates set to 0, a value that vLLM would reject."""

NEEDS = {
    "LORA_MODULES": "ENABLE_LORA=true",
    "DEFAULT_MM_LORAS": "ENABLE_LORA=true",
    "ENABLE_AUTO_TOOL_CHOICE": "TOOL_CALL_PARSER",
    "ENABLE_LOG_OUTPUTS": "ENABLE_LOG_REQUESTS=true",
}
"""Flag -> another flag that it needs. vLLM checks this only after it has loaded the model, or never."""

REGISTERED = {
    "LOAD_FORMAT": "",
    "QUANTIZATION": "",
    "REASONING_PARSER": "REASONING_PARSER_PLUGIN",
    "TOOL_CALL_PARSER": "TOOL_PARSER_PLUGIN",
}
"""Flag whose value must be a name that vLLM or a plugin knows -> flag of a file with more names, which is read later.

vLLM's parser accepts any text for these flags."""

LIBRARIES = {
    "HF_TOKEN": "the Hugging Face token for gated and private repositories",
    "HF_ENDPOINT": "the address of the Hugging Face hub, or of a mirror",
    "HF_HUB_OFFLINE": "1: use only files that are in the cache",
}
"""Variables that the libraries read from the environment themselves -> their meaning.

HF_TOKEN is a flag of vLLM too. But a secret is never put into the arguments of the process, which everyone on the
machine can read."""

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
"""Common names, which never set a flag of vLLM -> what to do instead; "" if no user would miss the flag.

RunPod's pod templates set the last two; Kubernetes sets VLLM_PORT too, to a URL, if a Service is called vllm.
"""

UNSET = ("VLLM_PORT",)
"""Variables that are removed from the environment, because vLLM would read them itself."""

REFUSED_ENVIRONMENT = {
    "VLLM_API_KEY": "keys come from the endpoint's Secret and are checked before vLLM",
    "VLLM_USE_RUST_FRONTEND": "that front-end has no key check, no /v2 path and no drain",
    "VLLM_SERVER_DEV_MODE": "it opens routes that stop or change the server",
}
"""vLLM's environment variables that the server refuses unless they are "" or 0 -> why."""

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
"""Flags of earlier versions of vLLM or of RunPod's workers -> what to set now ("" if nothing replaces it).

The server warns about them and ignores them, unless the image's vLLM has such a flag."""
