"""Write the folders of tiny models with random weights, from configurations of transformers: what they answer has the
right shape and no meaning.

A program for an environment that has vLLM: python make_models.py BYTE_TOKENIZER_FOLDER TARGET_FOLDER [KIND ...]
Without a KIND it writes all of them.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoTokenizer, BertModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers import models as architectures

SIZES = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}

IMAGE = "<image>"

CHAT_WITH_IMAGES = """\
{% for message in messages %}{{ message.role }}: \
{% if message.content is string %}{{ message.content }}\
{% else %}{% for part in message.content %}\
{% if part.type == 'text' %}{{ part.text }}{% else %}<image>{% endif %}\
{% endfor %}{% endif %}
{% endfor %}assistant: """


def bert(labels: tuple[str, ...], tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    """A classifier with these labels; with one it scores pairs of texts."""
    config = AutoConfig.for_model(
        "bert", vocab_size=len(tokenizer), max_position_embeddings=256, pad_token_id=0, **SIZES
    )
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    architectures.bert.BertForSequenceClassification(config).save_pretrained(target)
    tokenizer.save_pretrained(target)


def embedder(tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    config = AutoConfig.for_model(
        "bert", vocab_size=len(tokenizer), max_position_embeddings=256, pad_token_id=0, **SIZES
    )
    BertModel(config).save_pretrained(target)
    tokenizer.save_pretrained(target)


def adapter(tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    """A LoRA adapter of rank 4 for the attention of the tiny chat model (64 wide, 1 layer, as make_model.py has it)."""
    target.mkdir(parents=True)
    torch.manual_seed(1)
    name = "base_model.model.model.layers.0.self_attn.o_proj.lora_{}.weight"
    weights = {name.format("A"): 1000 * torch.randn(4, 64), name.format("B"): torch.randn(64, 4)}
    save_file(weights, target / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["o_proj"], "task_type": "CAUSAL_LM"}
    (target / "adapter_config.json").write_text(json.dumps(config))


def thinker(tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    """The tiny chat model, whose tokenizer has the marks of reasoning; for canned answers."""
    tokenizer.add_tokens(["<think>", "</think>"])
    _save_with_more_tokens(tokenizer, target)


def coder(tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    """The tiny chat model, whose tokenizer has the tokens by which Qwen's coders fill in."""
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"]}
    )
    _save_with_more_tokens(tokenizer, target)


def _save_with_more_tokens(tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    """The model that the tokenizer came with, beside a tokenizer that got more tokens since."""
    shutil.copytree(tokenizer.name_or_path, target)
    tokenizer.save_pretrained(target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, "vocab_size": len(tokenizer)}))


def whisper(tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    """Whisper with its special tokens and the bytes for words: it accepts 30 s of sound and writes up to 64 tokens."""
    languages = list(architectures.whisper.tokenization_whisper.LANGUAGES)
    special = ["<|startoftranscript|>", *(f"<|{language}|>" for language in languages)]
    special += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"]
    special += ["<|notimestamps|>", *(f"<|{step * 0.02:.2f}|>" for step in range(1501))]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    number = tokenizer.convert_tokens_to_ids
    end = tokenizer.eos_token_id
    config = architectures.whisper.WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=64,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_target_positions=64,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=number("<|startoftranscript|>"),
    )
    architectures.whisper.WhisperForConditionalGeneration(config).save_pretrained(target)
    tokenizer.save_pretrained(target)
    architectures.whisper.WhisperFeatureExtractor(feature_size=80).save_pretrained(target)


def vision(tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    """LLaVA, for LOAD_FORMAT=dummy: it sees images of 28 pixels a side as 4 patches."""
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
    tokenizer.chat_template = CHAT_WITH_IMAGES
    text = {**SIZES, "num_key_value_heads": 1, "vocab_size": len(tokenizer), "max_position_embeddings": 2048}
    config = architectures.llava.LlavaConfig(
        text_config={"model_type": "llama", "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, **text},
        vision_config={"model_type": "clip_vision_model", **SIZES, "image_size": 28, "patch_size": 14},
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=4,
        vision_feature_layer=-1,
        architectures=["LlavaForConditionalGeneration"],
    )
    config.save_pretrained(target)
    side = {"height": 28, "width": 28}
    images = architectures.clip.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=side)
    architectures.llava.LlavaProcessor(
        images, tokenizer, patch_size=14, vision_feature_select_strategy="default", image_token=IMAGE
    ).save_pretrained(target)


def listener(tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    """Qwen3-ASR in its realtime form, for LOAD_FORMAT=dummy: it writes, transcribes, and accepts streamed sound."""
    tokens = {"audio_token": "<|audio_pad|>", "audio_bos_token": "<|audio_start|>", "audio_eos_token": "<|audio_end|>"}
    marked = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.eos_token,
        chat_template=tokenizer.chat_template,
        extra_special_tokens=tokens,
    )
    features = architectures.qwen3_asr.Qwen3ASRFeatureExtractor(feature_size=80)
    architectures.qwen3_asr.Qwen3ASRProcessor(features, marked).save_pretrained(target)
    audio = {
        "num_mel_bins": 80,
        "d_model": 64,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "output_dim": 64,
        "downsample_hidden_size": 8,
        "n_window": 50,
        "n_window_infer": 800,
    }
    text = {"model_type": "qwen3", "vocab_size": len(marked), "num_key_value_heads": 1, "head_dim": 32, **SIZES}
    thinker = {
        "audio_config": audio,
        "text_config": {**text, "max_position_embeddings": 2048, "eos_token_id": marked.eos_token_id},
        "audio_token_id": marked.convert_tokens_to_ids(tokens["audio_token"]),
    }
    config = {"architectures": ["Qwen3ASRRealtimeGeneration"], "model_type": "qwen3_asr", "dtype": "bfloat16"}
    (target / "config.json").write_text(json.dumps({**config, "thinker_config": thinker}))


KINDS: dict[str, Callable[[PreTrainedTokenizerBase, Path], None]] = {
    "adapter": adapter,
    "coder": coder,
    "classifier": lambda tokenizer, target: bert(("safe", "spam", "rude"), tokenizer, target),
    "cross-encoder": lambda tokenizer, target: bert(("relevant",), tokenizer, target),
    "embedder": embedder,
    "listener": listener,
    "thinker": thinker,
    "vision": vision,
    "whisper": whisper,
}


if __name__ == "__main__":
    tokenizer_folder, target_folder, *kinds = sys.argv[1:]
    for kind in kinds or KINDS:
        KINDS[kind](AutoTokenizer.from_pretrained(tokenizer_folder), Path(target_folder) / kind)
