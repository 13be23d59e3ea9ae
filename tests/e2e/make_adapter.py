"""Write a LoRA adapter for SmolLM2-135M-Instruct that makes it babble: python make_adapter.py TARGET_FOLDER"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

LAYERS, WIDTH, RANK = 30, 576, 4


def main(target: Path) -> None:
    torch.manual_seed(1)
    weights = {}
    for layer in range(LAYERS):
        name = f"base_model.model.model.layers.{layer}.self_attn.o_proj"
        weights[f"{name}.lora_A.weight"] = torch.randn(RANK, WIDTH)
        weights[f"{name}.lora_B.weight"] = torch.randn(WIDTH, RANK)
    target.mkdir(parents=True)
    save_file(weights, target / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": ["o_proj"],
        "task_type": "CAUSAL_LM",
    }
    (target / "adapter_config.json").write_text(json.dumps(config))
    for file in target.iterdir():
        file.chmod(0o644)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
