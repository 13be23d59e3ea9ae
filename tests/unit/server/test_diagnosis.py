"""Real texts of vLLM, torch and huggingface_hub, and what is made of them. Where a CPU can, tests/vllm provokes them
by a real start."""

from pathlib import Path

import pytest

from forebay_server.lifecycle.diagnosis import RULES, Evidence, explain, stopped, table

KV = (
    "To serve at least one request with the model's max seq len (131072), ({needed} GiB KV cache is needed, which is "
    "larger than the available KV cache memory (4.2 GiB). {estimate}Try increasing `gpu_memory_utilization` (which "
    "also controls CPU memory on the CPU backend) or decreasing `max_model_len` when initializing the engine. See "
    "https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details."
)
CUDA = (
    "CUDA out of memory. Tried to allocate 224.00 MiB. GPU 0 has a total capacity of 21.98 GiB of which 120.44 MiB is "
    "free. Including non-PyTorch memory, this process has 21.86 GiB memory in use. Of the allocated memory 21.50 GiB "
    "is allocated by PyTorch, and 10.21 MiB is reserved by PyTorch but unallocated."
)
DRIVER = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading "
    "and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx Alternatively, go to: "
    "https://pytorch.org to install a PyTorch version that has been compiled with your version of the CUDA driver."
)
FREE = (
    "Free memory on device cuda:0 (12.1/79.18 GiB) on startup is less than desired GPU memory utilization (0.92, 72.85 "
    "GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
)
TEMPLATE = (
    "The supplied chat template string (template.jinja) appears path-like, but doesn't exist! Tried: template.jinja "
    "and /opt/venv/lib/python3.12/site-packages/vllm/transformers_utils/chat_templates/template.jinja"
)
LITERAL = """1 validation error for LoRAConfig
max_lora_rank
  Input should be 1, 8, 16, 32, 64, 128, 256, 320 or 512 [type=literal_error, input_value=7, input_type=int]
    For further information visit https://errors.pydantic.dev/2.14/v/literal_error"""
BETWEEN = (
    "1 validation error for SchedulerConfig\n  Value error, max_num_batched_tokens (10) must be greater than or equal "
    "to max_num_seqs (20). [type=value_error, input_value=ArgsKwargs((), {'max_num_...ncoder_decoder': False}), "
    "input_type=ArgsKwargs]\n    For further information visit https://errors.pydantic.dev/2.14/v/value_error"
)
NO_MODEL = (
    "1 validation error for ModelConfig\n  Value error, Invalid repository ID or local directory specified: '/no/m'."
    "\nPlease verify the following requirements:\n1. Provide a valid Hugging Face repository ID.\n [type=value_error, "
    "input_value=ArgsKwargs((), {'model': '/no/model'}), input_type=ArgsKwargs]"
)
INSPECTED = (
    "1 validation error for ModelConfig\n  Value error, Model architectures ['LlavaForConditionalGeneration'] failed "
    "to be inspected. Please check the logs for more details. [type=value_error, input_value=ArgsKwargs((), {'model': "
    "'/m'}), input_type=ArgsKwargs]"
)


NO_MODULE = "No module named 'torchvision'"


TEXTS = [
    (NO_MODULE, "MissingLibrary", "needs the library torchvision,", "pip install"),
    (
        "This modeling file requires the following packages that were not found in your environment: einops, timm. Run "
        "`pip install einops timm`",
        "MissingLibrary",
        "org/model needs einops, timm, which",
        "pip install",
    ),
    (INSPECTED, "BrokenArchitecture", "LlavaForConditionalGeneration", "spec.image"),
    (
        f"{INSPECTED}\nError raised in subprocess:\nTraceback (most recent call last):\nModuleNotFoundError: No module "
        "named 'torchvision'\n\nCommand '['python3', '-m', 'vllm.model_executor.models.registry']' returned non-zero "
        "exit status 1.",
        "MissingLibrary",
        "needs the library torchvision,",
        "pip install",
    ),
    (
        "Model architectures ['MambaByteForCausalLM'] are not supported for now. Supported architectures: x",
        "UnsupportedArchitecture",
        "MambaByteForCausalLM",
        "spec.image",
    ),
    (
        "Model architecture Phi3SmallForCausalLM was supported in vLLM until v0.9.2, and is not supported anymore.",
        "UnsupportedArchitecture",
        "Phi3SmallForCausalLM",
        "spec.image",
    ),
    (
        "The checkpoint you are trying to load has model type `novel` but Transformers does not recognize this "
        "architecture. This could be because of an issue with the checkpoint, or because it is out of date.",
        "UnsupportedArchitecture",
        "model type novel",
        "TRUST_REMOTE_CODE",
    ),
    (
        "Unknown quantization method: awqq. Must be one of ['awq', 'fp8', 'gptq'].",
        "UnknownQuantization",
        "awqq",
        "'awq', 'fp8', 'gptq'",
    ),
    (
        "Quantization method specified in the model config (awq) does not match the quantization method specified "
        "in the `quantization` argument (fp8).",
        "UnknownQuantization",
        "is quantized by awq, and QUANTIZATION asks for fp8",
        "set it to awq",
    ),
    (
        "The quantization method fp8 is not supported for the current GPU. Minimum capability: 89. Current "
        "capability: 75.",
        "UnsupportedQuantization",
        "89, and this one has 75",
        "newer GPU",
    ),
    (
        "bitsandbytes quantization is currently not supported in cpu.",
        "UnsupportedQuantization",
        "not supported in cpu",
        "another quantization",
    ),
    (
        KV.format(
            needed="16.0",
            estimate="Based on the available memory, the estimated maximum model length is 34400. ",
        ),
        "MaxModelLenTooLarge",
        "MAX_MODEL_LEN=131072 tokens needs 16.0 GiB of KV cache; 4.2 GiB are left",
        "MAX_MODEL_LEN=34400",
    ),
    (KV.format(needed="16.0", estimate=""), "OutOfMemoryKVCache", "needs 16.0 GiB; 4.2 GiB", "more GPU memory"),
    ("No available memory for the cache blocks. Try increasing", "OutOfMemoryKVCache", "no memory", "quantized"),
    (
        "User-specified max_model_len (9000) is greater than the derived max_model_len "
        "(max_position_embeddings=8192 or model_max_length=None in model's config.json).",
        "MaxModelLenTooLarge",
        "MAX_MODEL_LEN=9000 is more than org/model supports, which is 8192",
        "MAX_MODEL_LEN=8192",
    ),
    (FREE, "GPUMemoryTaken", "12.1 GiB of the GPU's 79.18 GiB", "12.1/79.18"),
    (CUDA, "OutOfMemoryWeights", "21.98 GiB: 120.44 MiB were free when 224.00 MiB more", "spec.gpu.count"),
    (
        "CUDA out of memory occurred when warming up sampler with 1024 dummy requests. Please try lowering",
        "OutOfMemoryWarmUp",
        "1024",
        "MAX_NUM_SEQS",
    ),
    (DRIVER, "DriverTooOld", "found version 11040", "driver"),
    (
        "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling NumCudaDevices() "
        "that might have already set an error? Error 803: system has unsupported display driver / cuda driver "
        "combination",
        "DriverTooOld",
        "too old",
        "Update the node's driver",
    ),
    (
        "CUDA error: CUDA driver version is insufficient for CUDA runtime version",
        "DriverTooOld",
        "too old",
        "Update the node's driver",
    ),
    (
        "World size (4) is larger than the number of available GPUs (1) in this node. If this is intentional",
        "TooFewGPUs",
        "The parallel sizes need 4 GPUs, and the pod has 1",
        "spec.gpu.count to 4",
    ),
    ("Failed to infer device type, please set the environment variable", "NoGPU", "no GPU", "spec.gpu.count"),
    ("No CUDA GPUs are available", "NoGPU", "no GPU", "spec.gpu.count"),
    (
        "Total number of attention heads (14) must be divisible by tensor parallel size (4).",
        "InvalidParallelism",
        "14 attention heads, which 4 GPUs",
        "divides 14",
    ),
    (TEMPLATE, "InvalidChatTemplate", "template.jinja", "CUSTOM_CHAT_TEMPLATE"),
    (
        "Loading lora sql failed: No adapter found for /adapters/sql",
        "InvalidAdapter",
        "sql could not be loaded: nothing usable is at /adapters/sql",
        "LORA_MODULES",
    ),
    ("LoRA rank 64 is greater than max_lora_rank 16.", "InvalidAdapter", "rank 64", "MAX_LORA_RANK=64"),
    ("vLLM does not yet support DoRA.", "InvalidAdapter", "does not yet support DoRA", "trained on this model"),
    ("Cannot find any model weights with `org/model`", "NoWeights", "no weights", "LOAD_FORMAT"),
    (
        "Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': -9}",
        "OutOfHostMemory",
        "killed",
        "memory limit",
    ),
    (LITERAL, "InvalidConfiguration", "(LoRAConfig): max_lora_rank Input should be 1, 8, 16", "MAX_NUM_SEQS"),
    (BETWEEN, "InvalidConfiguration", "(SchedulerConfig): max_num_batched_tokens (10) must be", "MAX_NUM_SEQS"),
    (NO_MODEL, "InvalidModel", "is not a model", "spec.model"),
    ("[Errno 28] No space left on device: '/cache/x'", "DiskFull", "full", "larger cache volume"),
    ("[Errno 111] Connection refused", "HubUnreachable", "could not be reached", "HF_ENDPOINT"),
]


@pytest.mark.parametrize(("text", "reason", "says", "advises"), TEXTS)
def test_a_real_log_becomes_reason_message_and_remedy(text: str, reason: str, says: str, advises: str) -> None:
    failure = explain(RuntimeError("engine failed"), "org/model", [evidence(text)])
    assert failure.reason == reason
    assert says in failure.message
    assert advises in failure.remedy


def evidence(text: str) -> Evidence:
    names = {
        CUDA: "OutOfMemoryError",
        NO_MODULE: "ModuleNotFoundError",
        LITERAL: "ValidationError",
        BETWEEN: "ValidationError",
    }
    return Evidence(frozenset({names.get(text, "ValueError")}), text)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("GatedRepoError", "GatedRepository"),
        ("RepositoryNotFoundError", "RepositoryNotFound"),
        ("RevisionNotFoundError", "RevisionNotFound"),
        ("HfHubHTTPError", "HubFailed"),
    ],
)
def test_refusals_of_the_hub_are_recognized_by_their_exception(name: str, reason: str) -> None:
    assert explain(
        RuntimeError("x"), "m", [Evidence(frozenset({name, "HfHubHTTPError"}), "401 Client Error")]
    ).reason == (reason)


def test_every_text_rule_has_a_captured_text() -> None:
    evidences = [evidence(text) for text, *_ in TEXTS]
    by_text = [rule for rule in RULES if rule.pattern and rule.reason != "HubFailed"]
    assert [rule for rule in by_text if not any(rule.match(known, "m") for known in evidences)] == []


def test_the_first_error_of_the_engine_takes_precedence() -> None:
    worker = Evidence(frozenset({"RuntimeError"}), DRIVER)
    core = Evidence(frozenset({"Exception"}), "WorkerProc initialization failed due to an exception in a background")
    error = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")
    assert explain(error, "m", [worker, core]).reason == "DriverTooOld"
    unknown = Evidence(frozenset({"KeyError"}), "layers.0.self_attn.wat")
    failure = explain(error, "m", [unknown, core])
    assert (failure.reason, failure.exit_status) == ("StartFailed", 1)
    assert "layers.0.self_attn.wat" in failure.message


def test_a_library_missing_for_a_model_class_is_named_from_vllms_log() -> None:
    logged = Evidence(frozenset({"RuntimeError"}), "Error raised in subprocess:\n… No module named 'torchvision.io'")
    failure = explain(ValueError(INSPECTED), "org/model", [logged])
    assert (failure.reason, "library torchvision," in failure.message) == ("MissingLibrary", True)
    assert explain(ValueError("Model architectures ['X'] are not supported for now."), "m", [logged]).reason == (
        "UnsupportedArchitecture"
    )


def test_an_engine_that_ended_without_an_error_was_killed() -> None:
    """vLLM names the exit status only if it is immediately available: {} otherwise, as on a busy machine."""
    error = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")
    assert explain(error, "m").reason == "OutOfHostMemory"
    assert explain(error, "m", [Evidence(frozenset({"KeyError"}), "wat")]).reason == "StartFailed"


def test_a_server_that_stops_later_reports_the_engines_error() -> None:
    assert stopped("m", []).reason == "ServerStopped"
    assert "illegal" in stopped("m", [Evidence(frozenset(), "CUDA error: an illegal memory access")]).message
    assert stopped("m", [Evidence(frozenset(), CUDA)]).reason == "OutOfMemoryWeights"


def test_the_documentation_lists_the_rules() -> None:
    page = Path("docs/lifecycle.md").read_text("utf-8")
    assert page.partition("<!-- rules -->\n")[2].partition("<!-- /rules -->")[0] == table()
    assert table().count("\n") == len(RULES) + 2
