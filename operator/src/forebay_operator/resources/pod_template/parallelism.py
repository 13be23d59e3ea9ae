"""Chooses how many GPUs share the model: TENSOR_PARALLEL_SIZE follows spec.gpu.count. pod_spec.py calls it."""

import re
from collections.abc import Iterable

from forebay_operator.spec import Manifest

TENSOR_PARALLEL_SIZE = "TENSOR_PARALLEL_SIZE"
OTHER_PARALLEL_SIZES = ("PIPELINE_PARALLEL_SIZE", "DATA_PARALLEL_SIZE", "PREFILL_CONTEXT_PARALLEL_SIZE")
"""Settings that use GPUs too. vLLM needs the product of all of them (ParallelConfig, config/parallel.py)."""

ELSEWHERE = ("VLLM_CONFIG_FILE", "DATA_PARALLEL_SIZE_LOCAL")
"""With one of these settings, only the server knows how the GPUs are shared."""

_IN_ARGUMENTS = re.compile(r"(?:^|\s)(?:-(?:tp|pp|dp|pcp)|--\S*parallel[-_]size\S*)(?:[\s=]|$)")


MAX_COUNT_DIGITS = 6
"""Digits of a parallel size. The world's largest cluster has fewer GPUs."""


def find_tensor_parallel_size(gpus: int, env: Iterable[Manifest], words: Iterable[str] = ()) -> int | None:
    """The tensor parallel size: the number of GPUs, divided by the other parallel sizes.

    Returns None if the operator must not set it: for a single GPU, if the user sets it, or if only the server knows it.

    Args:
        words: the words of spec.args.
    """
    given = {str(variable["name"]): variable for variable in env}
    arguments = " ".join((str(given.get("VLLM_EXTRA_ARGS", {}).get("value", "")), *words))
    if TENSOR_PARALLEL_SIZE in given or any(name in given for name in ELSEWHERE) or _IN_ARGUMENTS.search(arguments):
        return None
    used = 1
    for name in OTHER_PARALLEL_SIZES:
        if name in given:
            value = str(given[name].get("value", "")).strip()
            size = int(value) if value.isdecimal() and len(value) <= MAX_COUNT_DIGITS else 0
            if size < 1:
                return None
            used *= size
    size, rest = divmod(gpus, used)
    return size if size > 1 and not rest else None
