"""The estimates of memory_fit.py against transformers' parameters (on the meta device) and vLLM's KV cache specs."""

import json
import os
import subprocess
from typing import Any

import pytest

from tests.vllm.server import environment, free_port

PROGRAM = """
import json, os, sys, tempfile
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from vllm import EngineArgs
from vllm.config import set_current_vllm_config
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.distributed.parallel_state import model_parallel_is_initialized
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.model_executor.model_loader.utils import initialize_model
from forebay_server.lifecycle import memory_fit

def compare(kind):
    config = AutoConfig.for_model(kind)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    config.architectures, config.dtype = [type(model).__name__], "bfloat16"
    folder = tempfile.mkdtemp()
    config.save_pretrained(folder)
    engine = EngineArgs(model=folder, skip_tokenizer_init=True, load_format="dummy", enforce_eager=True)
    vllm_config = engine.create_engine_config()
    with set_current_vllm_config(vllm_config):
        if not model_parallel_is_initialized():
            init_distributed_environment(1, 0, f"tcp://127.0.0.1:{port}", 0, "gloo")
            initialize_model_parallel(1, 1)
        with torch.device("meta"):
            initialize_model(vllm_config=vllm_config)
        layers = vllm_config.compilation_config.static_forward_context.values()
        specs = [layer.get_kv_cache_spec(vllm_config) for layer in layers if isinstance(layer, AttentionLayerBase)]
        planned = sum(spec.max_memory_usage_bytes(vllm_config) for spec in specs if spec)
    need = memory_fit.MemoryNeed(
        kind,
        json.load(open(folder + "/config.json")),
        max_num_batched_tokens=vllm_config.scheduler_config.max_num_batched_tokens,
        block_size=vllm_config.cache_config.block_size,
    )
    counted = sum(parameter.numel() for parameter in model.parameters())
    kv = memory_fit.kv_bytes(need, vllm_config.model_config.max_model_len)
    return {"counted": counted, "estimated": memory_fit.parameters(need.config), "planned": planned, "kv": kv}

port, *kinds = sys.argv[1:]
results = {}
for kind in kinds:
    try:
        results[kind] = compare(kind)
    except Exception as error:
        results[kind] = {"error": repr(error)}
print(json.dumps(results))
"""

KINDS = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "qwen2_moe")


@pytest.fixture(scope="module")
def compared(vllm_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All kinds in one process, because its imports take longer than the models."""
    env = environment(tmp_path_factory.mktemp("fit"), {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"})
    command = [vllm_python, "-c", PROGRAM, str(free_port()), *KINDS]
    ran = subprocess.run(command, env={**os.environ, **env}, text=True, capture_output=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    results: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return results


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_kv_cache_of_the_default_config_are_estimated_within_2_percent(
    compared: dict[str, Any], kind: str
) -> None:
    result = compared[kind]
    assert "error" not in result, result
    assert result["estimated"] == pytest.approx(result["counted"], rel=0.02)
    assert result["kv"] == pytest.approx(result["planned"], rel=0.02)
