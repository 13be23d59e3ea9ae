"""Diagnoses failed starts: small rules convert exceptions and logged errors to {reason, message, remedy}.

The patterns match texts of vLLM 0.32 and 0.33, torch 2.13 and huggingface_hub 2.4. If a text changes, its rule no
longer matches. The reason is then StartFailed with the text itself, so nothing is lost. docs/lifecycle.md lists the
rules. `python -m forebay_server.lifecycle.diagnosis` writes its table.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from forebay_protocol.pod import EXIT_CONFIGURATION
from forebay_server.failure import EXIT_FAILURE, Failure, StartError, causes


@dataclass(frozen=True)
class Evidence:
    """The classes and the text of one error."""

    names: frozenset[str]
    """Names of the classes of the exception and its causes, and of their base classes. Rules find exceptions of
    huggingface_hub by these names, since vLLM and transformers wrap them."""
    text: str
    """The texts of the exception and its causes, outermost first."""

    @classmethod
    def of(cls, error: BaseException) -> "Evidence":
        """Collect the classes and the messages of an exception and of its causes."""
        chain = list(causes(error))
        names = {cause_class.__name__ for cause in chain for cause_class in type(cause).__mro__}
        return cls(frozenset(names), "\n".join(str(cause) for cause in chain))


@dataclass(frozen=True)
class Rule:
    """A rule that matches by the name of an exception, by a pattern in the text, or by both.

    `message` and `remedy` are formatted with the pattern's named groups and {model}.
    """

    reason: str
    message: str
    remedy: str
    exception: str = ""
    pattern: str = ""
    exit_status: int = EXIT_CONFIGURATION

    def match(self, evidence: Evidence, model: str) -> Failure | None:
        """The failure that this rule diagnoses, or None."""
        if self.exception and self.exception not in evidence.names:
            return None
        match = re.search(self.pattern, evidence.text, re.DOTALL) if self.pattern else None
        if self.pattern and not match:
            return None
        groups = match.groupdict() if match else {}
        values = {"model": model, **{name: " ".join(text.split()) for name, text in groups.items()}}
        return Failure(self.reason, self.message.format(**values), self.remedy.format(**values), self.exit_status)


RULES = (
    Rule(
        "GatedRepository",
        "The repository {model} is gated, and no token that has access to it was given.",
        "Ask for access on the page of {model}, then set HF_TOKEN to a token of that account, from a Secret.",
        exception="GatedRepoError",
    ),
    Rule(
        "RepositoryNotFound",
        "The hub has no repository {model}, or it is private and no token with access was given.",
        "Correct spec.model. If the repository is private, set HF_TOKEN from a Secret.",
        exception="RepositoryNotFoundError",
    ),
    Rule(
        "RevisionNotFound",
        "The repository {model} has no such revision.",
        "Correct or remove spec.revision or MODEL_REVISION.",
        exception="RevisionNotFoundError",
    ),
    Rule(
        "HubFailed",
        "The hub answered with an error: {error}",
        "The pod tries again automatically. If this lasts, check the hub's status page and HF_ENDPOINT.",
        exception="HfHubHTTPError",
        pattern=r"(?P<error>[^\n]+)",
        exit_status=EXIT_FAILURE,
    ),
    Rule(
        "HubUnreachable",
        "The hub could not be reached to fetch {model}.",
        "Let the pod reach the hub (network policies, proxy), or set HF_ENDPOINT to a mirror; the pod tries again.",
        pattern=r"(?i)(connection refused|name or service not known|temporary failure in name resolution|timed out"
        r"|no route to host|network is unreachable|cannot find the requested files in the local cache)",
        exit_status=EXIT_FAILURE,
    ),
    Rule(
        "DiskFull",
        "A volume of the pod is full.",
        "Give the endpoint a larger cache volume, or delete unused models from it.",
        pattern=r"No space left on device|Disk quota exceeded",
    ),
    Rule(
        "MissingLibrary",
        "{architecture}, the architecture of {model}, needs the library {library}, which the image lacks.",
        "Set spec.image to an image that has {library}: build it from this image with pip install.",
        pattern=r"architectures? \[?'?(?P<architecture>[\w.]+)'?.*?failed to be inspected.*?"
        r"(?:No module named '|requires the |[Pp]lease install )(?P<library>[\w\[\]-]+)",
    ),
    Rule(
        "BrokenArchitecture",
        "vLLM supports the architecture {architecture} of {model}, but could not import it in this image.",
        "See the container's log for the cause. Set spec.image to an image that can import it.",
        pattern=r"architectures? \[?'?(?P<architecture>[\w.]+)'?.*?failed to be inspected",
    ),
    Rule(
        "UnsupportedArchitecture",
        "This vLLM does not know the architecture {architecture} of {model}.",
        "Use a model that vLLM supports, or an image (spec.image) with a vLLM version that does.",
        pattern=r"Model architectures? \[?'?(?P<architecture>[\w.]+)'?.*?"
        r"(?:are not supported for now|is not supported|was supported)",
    ),
    Rule(
        "UnsupportedArchitecture",
        "The transformers library of the image does not know the model type {architecture} of {model}.",
        "Use a newer image of vLLM (spec.image), or set TRUST_REMOTE_CODE=true if the repository brings its own code.",
        pattern=r"model type `(?P<architecture>[\w.-]+)` but Transformers does not recognize this architecture",
    ),
    Rule(
        "UnknownQuantization",
        "vLLM does not know the quantization {method!r}.",
        "Set QUANTIZATION to one of {known}, or remove it: vLLM detects the model's own quantization.",
        pattern=r"Unknown quantization method: (?P<method>[\w.-]+)\. Must be one of \[(?P<known>[^\]]*)\]",
    ),
    Rule(
        "UnknownQuantization",
        "{model} is quantized by {method}, and QUANTIZATION asks for {asked}.",
        "Remove QUANTIZATION, or set it to {method}.",
        pattern=r"Quantization method specified in the model config \((?P<method>[\w.-]+)\) does not match the "
        r"quantization method specified in the `quantization` argument \((?P<asked>[\w.-]+)\)",
    ),
    Rule(
        "UnsupportedQuantization",
        "The quantization {method} does not work here: {why}.",
        "Use another quantization of the model, or a newer GPU.",
        pattern=r"(?P<method>[\w.-]+) quantization is currently (?P<why>not supported in [\w ]+)",
    ),
    Rule(
        "UnsupportedQuantization",
        "The quantization {method} needs a newer GPU: compute capability {needed}, and this one has {found}.",
        "Use another quantization of the model, or a newer GPU.",
        pattern=r"quantization method (?P<method>[\w.-]+) is not supported for the current GPU\. "
        r"Minimum capability: (?P<needed>\d+)\. Current capability: (?P<found>\d+)",
    ),
    Rule(
        "MaxModelLenTooLarge",
        "One request of MAX_MODEL_LEN={asked} tokens needs {needed} GiB of KV cache; {available} GiB are left for it.",
        "Set MAX_MODEL_LEN={fits} or less, the largest that fits, or give the endpoint more GPU memory.",
        pattern=r"max seq len \((?P<asked>\d+)\), \(?(?P<needed>[\d.]+) GiB KV cache is needed, which is larger than "
        r"the available KV cache memory \((?P<available>[\d.]+) GiB\)\..*"
        r"estimated maximum model length is (?P<fits>\d+)",
    ),
    Rule(
        "OutOfMemoryKVCache",
        "The KV cache of one request of {asked} tokens needs {needed} GiB; {available} GiB are left for it.",
        "Give the endpoint more GPU memory, a quantized model, or a smaller MAX_MODEL_LEN.",
        pattern=r"max seq len \((?P<asked>\d+)\), \(?(?P<needed>[\d.]+) GiB KV cache is needed, which is larger than "
        r"the available KV cache memory \((?P<available>[\d.]+) GiB\)",
    ),
    Rule(
        "OutOfMemoryKVCache",
        "The weights of {model} leave no memory for the KV cache.",
        "Raise GPU_MEMORY_UTILIZATION (up to 0.95), use more or larger GPUs, or a quantized model.",
        pattern=r"No available memory for the cache blocks",
    ),
    Rule(
        "MaxModelLenTooLarge",
        "MAX_MODEL_LEN={asked} is more than {model} supports, which is {fits}.",
        "Set MAX_MODEL_LEN={fits} or less, the largest that the model's config allows, or remove it.",
        pattern=r"User-specified max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len "
        r"\(\w+=(?P<fits>\d+)",
    ),
    Rule(
        "GPUMemoryTaken",
        "Only {free} GiB of the GPU's {total} GiB are free, and vLLM needs {wanted} GiB. Something else uses the GPU.",
        "Give the pod a GPU of its own, or set GPU_MEMORY_UTILIZATION to less than {free}/{total}.",
        pattern=r"Free memory on device \S+ \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less than "
        r"desired GPU memory utilization \([\d.]+, (?P<wanted>[\d.]+) GiB\)",
        exit_status=EXIT_FAILURE,
    ),
    Rule(
        "OutOfMemoryWeights",
        "{model} does not fit the GPU's {total}: {free} were free when {tried} more were needed.",
        "Use more GPUs (spec.gpu.count and TENSOR_PARALLEL_SIZE), a larger one, or a quantized model.",
        exception="OutOfMemoryError",
        pattern=r"CUDA out of memory\. Tried to allocate (?P<tried>[\d.]+ \w+)\..*?total capacity of "
        r"(?P<total>[\d.]+ \w+) of which (?P<free>[\d.]+ \w+) is free",
    ),
    Rule(
        "OutOfMemoryWeights",
        "{model} does not fit the memory of the GPU.",
        "Use more GPUs (spec.gpu.count and TENSOR_PARALLEL_SIZE), a larger one, or a quantized model.",
        pattern=r"Failed to load model - not enough GPU memory|CUDA out of memory\. Tried to allocate",
    ),
    Rule(
        "OutOfMemoryWarmUp",
        "The GPU ran out of memory when vLLM tried {requests} requests at once.",
        "Lower MAX_NUM_SEQS, or lower GPU_MEMORY_UTILIZATION to leave more memory outside the KV cache.",
        pattern=r"CUDA out of memory occurred when warming up \w+ .*?with (?P<requests>\d+) dummy requests",
    ),
    Rule(
        "DriverTooOld",
        "The NVIDIA driver of the node is too old for this image's CUDA (found version {found}).",
        "Update the node's driver, or set spec.image to an image of vLLM for an older CUDA.",
        pattern=r"NVIDIA driver on your system is too old \(found version (?P<found>\d+)\)",
    ),
    Rule(
        "DriverTooOld",
        "The NVIDIA driver of the node is too old for this image's CUDA.",
        "Update the node's driver, or set spec.image to an image of vLLM for an older CUDA.",
        pattern=r"CUDA driver version is insufficient for CUDA runtime version"
        r"|unsupported display driver / cuda driver",
    ),
    Rule(
        "TooFewGPUs",
        "The parallel sizes need {asked} GPUs, and the pod has {found}.",
        "Set spec.gpu.count to {asked}, or lower TENSOR_PARALLEL_SIZE or PIPELINE_PARALLEL_SIZE.",
        pattern=r"World size \((?P<asked>\d+)\) is larger than the number of available GPUs \((?P<found>\d+)\)",
    ),
    Rule(
        "NoGPU",
        "vLLM sees no GPU in this pod.",
        "Set spec.gpu.count, check that the node has the NVIDIA device plugin, or use an image of vLLM for CPUs.",
        pattern=r"Failed to infer device type|No CUDA GPUs are available|Found no NVIDIA driver on your system"
        r"|no CUDA-capable device is detected",
    ),
    Rule(
        "InvalidParallelism",
        "{model} has {heads} attention heads, which {size} GPUs cannot share evenly.",
        "Set TENSOR_PARALLEL_SIZE to a number that divides {heads}.",
        pattern=r"Total number of attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size "
        r"\((?P<size>\d+)\)",
    ),
    Rule(
        "InvalidChatTemplate",
        "The chat template cannot be used: {why}",
        "Correct CUSTOM_CHAT_TEMPLATE: a Jinja template, or the path of a file with one.",
        pattern=r"(?P<why>[Tt]he supplied chat template.*?(?:doesn't exist|failed to be opened)"
        r"|is not a valid chat template type|/v1/chat/completions was answered[^\n]*(?:template|Template|jinja)[^\n]*)",
    ),
    Rule(
        "InvalidAdapter",
        "The adapter {name} could not be loaded: nothing usable is at {path}.",
        "Correct LORA_MODULES: a folder with adapter_config.json and its weights, or a repository of the hub.",
        pattern=r"Loading lora (?P<name>\S+) failed: No adapter found for (?P<path>\S+)",
    ),
    Rule(
        "InvalidAdapter",
        "An adapter has rank {rank}, and MAX_LORA_RANK is {limit}.",
        "Set MAX_LORA_RANK={rank} (or the next size that vLLM takes: 8, 16, 32, 64, 128, 256, 320, 512).",
        pattern=r"LoRA rank (?P<rank>\d+) is greater than max_lora_rank (?P<limit>\d+)",
    ),
    Rule(
        "InvalidAdapter",
        "An adapter does not fit {model}: {why}",
        "Use an adapter that was trained on this model, without modules_to_save and DoRA.",
        pattern=r"(?P<why>vLLM does not (?:yet )?support (?:DoRA|modules_to_save|init_lora_weights)[^\n]*"
        r"|vLLM only supports modules_to_save[^\n]*|[^\n]*expected target modules[^\n]*)",
    ),
    Rule(
        "NoWeights",
        "There are no weights in {model}.",
        "Set spec.model to a repository or folder with *.safetensors files, or set LOAD_FORMAT for another format.",
        pattern=r"Cannot find any model weights with",
    ),
    Rule(
        "InvalidModel",
        "{model} is not a model: no repository or folder of that name has a config.json.",
        "Correct spec.model.",
        pattern=r"Invalid repository ID or local directory specified|Repo id must be in the form"
        r"|is not a local folder and is not a valid model identifier",
    ),
    Rule(
        "InvalidConfiguration",
        "vLLM rejects the configuration ({kind}): {why}",
        "Change the named setting. Its variable is its name in capitals (max_num_seqs: MAX_NUM_SEQS).",
        exception="ValidationError",
        pattern=r"\d+ validation errors? for (?P<kind>\w+)\s+(?:Value error, )?(?P<why>.+?)\s*\[type=",
    ),
    Rule(
        "MissingLibrary",
        "{model} needs {library}, which the image lacks.",
        "Set spec.image to an image that has it: build it from this image with pip install.",
        pattern=r"packages that were not found in your environment: (?P<library>[\w, -]+)",
    ),
    Rule(
        "MissingLibrary",
        "{model} needs the library {library}, which the image lacks.",
        "Set spec.image to an image that has {library}: build it from this image with pip install.",
        exception="ModuleNotFoundError",
        pattern=r"No module named '(?P<library>\w+)",
    ),
    Rule(
        "OutOfHostMemory",
        "The engine was killed while it started, most likely at the pod's memory limit.",
        "Raise the memory limit in spec.resources: loading needs extra memory, about the size of the largest weight "
        "file.",
        pattern=r"Failed core proc\(s\): \{[^}]*: -9[,}]|WorkerProc.*exit ?code:? -9",
        exit_status=EXIT_FAILURE,
    ),
)

NO_EXIT_CODE = re.compile(r"Failed core proc\(s\): \{\}")
"""vLLM's message if the engine's process ended before vLLM could read its exit code. Without an error it was killed."""


def explain(error: BaseException, model: str, engine: Sequence[Evidence] = ()) -> Failure:
    """The Failure for `error`, which was raised while `model` started.

    `engine`: the errors of the engine's processes, the earliest first. They precede `error`, which then only says that
    the engine failed.
    """
    if isinstance(error, StartError):
        return error.failure
    last = Evidence.of(error)
    collected = [*engine, last]
    if "failed to be inspected" in last.text:  # the logged errors explain this error only
        collected = [replace(last, text="\n".join([last.text, *(evidence.text for evidence in engine)]))]
    if failure := _by_rule(collected, model):
        return failure
    if len(collected) == 1 and NO_EXIT_CODE.search(collected[0].text):
        return Failure("OutOfHostMemory", RULES[-1].message, RULES[-1].remedy, EXIT_FAILURE)
    text = f"{type(error).__name__}: {error}" if len(collected) == 1 else collected[0].text.strip()
    return Failure("StartFailed", f"vLLM could not start: {text}", "The container's log has the details.", EXIT_FAILURE)


def stopped(model: str, engine: Sequence[Evidence]) -> Failure:
    """The Failure for a server that stopped unexpectedly. `engine`: as for `explain`."""
    if failure := _by_rule(engine, model):
        return failure
    why = f": {engine[-1].text.strip()}" if engine else "."
    return Failure("ServerStopped", f"vLLM stopped serving{why}", "The container's log says why.", EXIT_FAILURE)


def explain_warm_up(error: Exception) -> Failure:
    """The Failure for a model that did not answer its first request."""
    failure = _by_rule([Evidence.of(error)], "the model")
    return failure or Failure("WarmUpFailed", str(error), "The container's log has the details.", EXIT_FAILURE)


def _by_rule(collected: Iterable[Evidence], model: str) -> Failure | None:
    matches = (rule.match(evidence, model) for evidence in collected for rule in RULES)
    return next((failure for failure in matches if failure), None)


def table() -> str:
    """Render the rules as a Markdown table."""
    rows = ["| reason | what it says | what to do |", "|---|---|---|"]
    rows += [f"| {rule.reason} | {_cell(rule.message)} | {_cell(rule.remedy)} |" for rule in RULES]
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"\{(\w+)(!r)?\}", r"*\1*", text).replace("|", "\\|")


if __name__ == "__main__":
    print(table(), end="")
