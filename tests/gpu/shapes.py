"""Models to measure with: the shapes of well-known ones, as config files of our own, and random weights.

Only a shape's sizes matter here: what such a model answers has no meaning.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.pins import ROOT

MAKE_BYTE_TOKENIZER = ROOT / "cluster/images/vllm-canned/make_model.py"

NOT_OF_A_TOKENIZER = ("*.safetensors", "*.bin", "*.index.json", "config.json", "generation_config.json")

WRITE_WEIGHTS = """
import sys
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
folder = sys.argv[1]
with torch.device("meta"):
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
weights = {}
for name, weight in model.named_parameters():  # a tied output layer is named once
    made = torch.empty(weight.shape, dtype=torch.bfloat16, device=device)
    weights[name] = (made.fill_(1) if "norm" in name else made.normal_(std=0.02)).cpu()
save_file(weights, folder + "/model.safetensors", {"format": "pt"})
"""
"""Writes random weights in bfloat16 beside a config.json. A separate program, because it must release the GPU."""


@dataclass(frozen=True)
class Shape:
    """A decoder-only model: `kind` is transformers' model_type, the sizes are those of its config."""

    name: str
    kind: str
    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int | None = None
    """None: that of the tokenizer, so that every generated token is text."""
    tied: bool = False
    length: int = 8192
    """Tokens of one request."""

    def config(self, vocabulary: int) -> dict[str, Any]:
        """Its config.json, with `vocabulary` if the shape has no value."""
        return {
            "architectures": [ARCHITECTURES[self.kind]],
            "model_type": self.kind,
            "hidden_size": self.hidden,
            "intermediate_size": self.feed_forward,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head,
            "vocab_size": self.vocabulary or vocabulary,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": self.length,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "bos_token_id": None,
            "eos_token_id": 0,
            "dtype": "bfloat16",
        }


ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}

LLAMA_1B = Shape("llama 1B", "llama", 2048, 8192, 16, 32, 8, 64, tied=True)
LLAMA_3B = Shape("llama 3B", "llama", 3072, 8192, 28, 24, 8, 128, tied=True)
QWEN3_8B = Shape("qwen3 8B", "qwen3", 4096, 12288, 36, 32, 8, 128, vocabulary=151936, length=32768)
QWEN2_32B = Shape("qwen2 32B", "qwen2", 5120, 27648, 64, 40, 8, 128, vocabulary=152064, length=32768)
"""As Llama-3.2-1B, Llama-3.2-3B, Qwen3-8B and Qwen2.5-32B; the first two with the tokenizer's vocabulary."""

TINY = Shape("llama tiny", "llama", 64, 256, 2, 2, 1, 32)
TINY_QWEN3 = Shape("qwen3 tiny", "qwen3", 256, 1024, 2, 4, 2, 64, vocabulary=1000)
TINY_QWEN2 = Shape("qwen2 tiny", "qwen2", 512, 1024, 2, 8, 2, 64, vocabulary=32000)
"""For a CPU, where only the program itself is tried."""


def bring_tokenizer(source: Path | None, target: Path) -> Path:
    """The folder of a tokenizer: a copy of `source` without its model, or else a tokenizer whose tokens are bytes."""
    if source is None:
        subprocess.run([sys.executable, str(MAKE_BYTE_TOKENIZER), str(target)], check=True, capture_output=True)
        (target / "config.json").unlink()
        return target
    return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns(*NOT_OF_A_TOKENIZER)))


def vocabulary_of(tokenizer: Path) -> int:
    """How many tokens the tokenizer in this folder has."""
    content = json.loads((tokenizer / "tokenizer.json").read_text("utf-8"))
    numbers = [*content["model"]["vocab"].values(), *(token["id"] for token in content["added_tokens"])]
    return int(max(numbers)) + 1


def write(shape: Shape, tokenizer: Path, folder: Path, *, weights: bool = False) -> Path:
    """A model's folder: config, tokenizer, and weights if wanted; without them it needs LOAD_FORMAT=dummy."""
    target = folder / shape.name.replace(" ", "-")
    shutil.copytree(tokenizer, target)
    (target / "config.json").write_text(json.dumps(shape.config(vocabulary_of(tokenizer)), indent=1))
    if weights:
        subprocess.run([sys.executable, "-c", WRITE_WEIGHTS, str(target)], check=True, stdout=subprocess.DEVNULL)
    return target
