"""Reads the memory of the pod's GPUs without CUDA in this process: vLLM's processes initialize CUDA.

The command line compares it with the model's need before the start.
"""
# ruff: noqa: PLC0415 - importing vLLM takes seconds

import logging

logger = logging.getLogger(__name__)


def memory() -> list[int]:
    """Bytes of each GPU; [] on a CPU, or if vLLM cannot read the GPUs."""
    from vllm.platforms import current_platform

    if not current_platform.is_cuda_alike():
        return []
    import torch

    try:
        return [int(current_platform.get_device_total_memory(number)) for number in range(torch.cuda.device_count())]
    except Exception as error:  # noqa: BLE001 - whatever NVML raises (a driver too old, …): vLLM will report it
        logger.warning("The memory of the GPUs could not be read: %r", error)
        return []
