"""Tiny models with weights (random), where dummy ones will not do."""

import subprocess
from pathlib import Path

from tests.vllm.server import environment

MAKE = """
import sys
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
source, target, width = sys.argv[1:]
torch.manual_seed(0)
config = AutoConfig.from_pretrained(source, intermediate_size=int(width))
AutoModelForCausalLM.from_config(config).save_pretrained(target)
AutoTokenizer.from_pretrained(source).save_pretrained(target)
"""


def with_weights(python: str, tiny_model: Path, target: Path, width: int = 64) -> Path:
    """The tiny model with its own weights; with a width of 131072 they have 50 MB."""
    command = [python, "-c", MAKE, str(tiny_model), str(target), str(width)]
    subprocess.run(command, check=True, env=environment(target.parent), timeout=120)
    return target
