"""`suffix` of completions: the prompt that has a model fill in between two texts. Pure.

The tokenizer decides which row of the table is the model's: families have no tokens in common, except for those that
fill in alike. A model that was never taught to fill in, and has the tokens all the same, answers poorly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from forebay_server.compat.incompatible import Incompatible

STATE = "forebay_fill_in"
"""In the app's state: how the model fills in, or None."""


MAX_CHARACTERS = 32 << 20
"""Of the suffix, over all prompts that share it: as much as the largest body has by default."""


@dataclass(frozen=True)
class FillInTokens:
    """The tokens of a family of models, in the text of a prompt."""

    before: str
    """Stands before the prompt."""
    after: str
    """Stands before the suffix."""
    middle: str = ""
    """Ends the prompt: the answer follows."""
    suffix_first: bool = False
    ends: tuple[str, ...] = ()
    """Tokens that end an answer besides the model's own end, where the tokenizer has them."""


TOKENS = {
    "Qwen Coder, CodeGemma, Granite 4": FillInTokens(
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
        ends=("<|fim_pad|>", "<|file_sep|>", "<|file_separator|>", "<|repo_name|>", "<|endoftext|>"),
    ),
    "StarCoder, StarCoder2, StableCode, Granite Code": FillInTokens(
        "<fim_prefix>",
        "<fim_suffix>",
        "<fim_middle>",
        ends=("<fim_pad>", "<file_sep>", "<repo_name>", "<|endoftext|>"),
    ),
    "SantaCoder": FillInTokens("<fim-prefix>", "<fim-suffix>", "<fim-middle>", ends=("<fim-pad>", "<|endoftext|>")),
    "DeepSeek": FillInTokens("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    "CodeLlama": FillInTokens("▁<PRE>", "▁<SUF>", "▁<MID>", ends=("▁<EOT>",)),
    "Seed-Coder": FillInTokens("<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>", suffix_first=True),
    "Codestral": FillInTokens("[PREFIX]", "[SUFFIX]", suffix_first=True, ends=("[MIDDLE]",)),
}
"""Families -> their tokens. Sources: the model cards, arXiv:2207.14255 for the two orders, arXiv:2506.03524 for
Seed-Coder, and mistral_common's encode_fim for Codestral."""


@dataclass(frozen=True)
class FillIn:
    """How the loaded model fills in."""

    tokens: FillInTokens
    stop_token_ids: tuple[int, ...]

    def render(self, prompt: str, suffix: str) -> str:
        """The text that the model goes on from."""
        tokens = self.tokens
        before, after = f"{tokens.before}{prompt}", f"{tokens.after}{suffix}"
        return f"{after}{before}{tokens.middle}" if tokens.suffix_first else f"{before}{after}{tokens.middle}"


def find_fill_in(token_id: Callable[[str], int | None]) -> FillIn | None:
    """How a model fills in; None where its tokenizer has the tokens of no family. `token_id`: the number of the one
    token that a text is read as, None where it is read as several."""
    for tokens in TOKENS.values():
        own = [token for token in (tokens.before, tokens.after, tokens.middle) if token]
        numbers = [token_id(token) for token in own]
        if None not in numbers:
            ends = (token_id(token) for token in tokens.ends)
            return FillIn(tokens, tuple(number for number in (*numbers, *ends) if number is not None))
    return None


def apply_suffix(request: Any, fill_in: FillIn | None) -> None:
    """Put the suffix of a completions request into its prompt, in place. Without `fill_in` it is vLLM's to answer.

    Raises:
        Incompatible: it has something that does not go with a suffix.
    """
    if request.suffix is None or fill_in is None:
        return
    for name in ("echo", "prompt_embeds", "truncate_prompt_tokens"):
        if getattr(request, name, None):
            raise Incompatible(f"{name} cannot be used with suffix.", "suffix")
    texts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise Incompatible("With suffix, prompt must be a text or a list of texts, not tokens.", "suffix")
    if len(texts) * len(request.suffix) > MAX_CHARACTERS:
        raise Incompatible("The suffix is too long for so many prompts. Send fewer of them.", "suffix")
    rendered = [fill_in.render(text, request.suffix) for text in texts]
    request.prompt = rendered[0] if isinstance(request.prompt, str) else rendered
    request.suffix = None
    request.stop_token_ids = [*(request.stop_token_ids or ()), *fill_in.stop_token_ids]
