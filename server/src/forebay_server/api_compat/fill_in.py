"""`suffix` of completions: renders a prompt that makes a model fill in the text between two texts. Pure.

The tokenizer decides which row of the table applies. Families share tokens only if they fill in alike. A model that
has the tokens without being trained to fill in answers poorly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from forebay_server.api_compat.incompatible import Incompatible

FILL_IN_STATE = "forebay_fill_in"
"""Name in the app's state: a FillIn, or None if the model cannot fill in."""

MAX_CHARACTERS = 32 << 20
"""Limit of the suffix's length times the number of prompts. It equals the default limit of a body in bytes."""


@dataclass(frozen=True)
class FillInTokens:
    """The special tokens with which a family of models fills in the middle of a text."""

    before: str
    """Precedes the prompt."""
    after: str
    """Precedes the suffix."""
    middle: str = ""
    """Ends the rendered prompt. The answer follows."""
    suffix_first: bool = False
    ends: tuple[str, ...] = ()
    """Tokens that end an answer in addition to the model's own end token. The tokenizer may lack them."""


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
        """The text that the model continues."""
        tokens = self.tokens
        before, after = f"{tokens.before}{prompt}", f"{tokens.after}{suffix}"
        return f"{after}{before}{tokens.middle}" if tokens.suffix_first else f"{before}{after}{tokens.middle}"


def find_fill_in(token_id: Callable[[str], int | None]) -> FillIn | None:
    """Find how a model fills in. Returns None if its tokenizer lacks the tokens of every family.

    `token_id` returns the ID of the token that encodes a text, or None if several tokens encode it.
    """
    for tokens in TOKENS.values():
        required = [token for token in (tokens.before, tokens.after, tokens.middle) if token]
        ids = [token_id(token) for token in required]
        if None not in ids:
            ends = (token_id(token) for token in tokens.ends)
            return FillIn(tokens, tuple(number for number in (*ids, *ends) if number is not None))
    return None


def apply_suffix(request: Any, fill_in: FillIn | None) -> None:
    """Put the suffix of a completions request into its prompt, in place. Without `fill_in` the request stays unchanged.

    Raises:
        Incompatible: the request has a field or a prompt that cannot be used with a suffix.
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
