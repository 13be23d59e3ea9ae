"""Which of the user's variables are probably misspelt, or have no effect.

The names that a server understands stand in server_names.txt with their status, made from the server's own parser by
`make names`; a test compares the two. A name that is near a known one is reported with it. Any other unknown name may
mean something to a library in the pod, so it passes.
"""

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from importlib import resources

from forebay_operator.spec import Manifest
from forebay_protocol.spelling import find_nearest

NO_EFFECT_REASONS = {
    "removed": "vLLM has removed it",
    "reserved": "it never sets a flag of vLLM",
    "not-yet": "it is not supported yet",
}
"""Status of a name that the server knows and ignores, with the reason."""

NO_SUGGESTION = {*NO_EFFECT_REASONS, "refused"}


@cache
def known_names() -> Mapping[str, str]:
    """Every variable that the server image of this release knows, with its status."""
    lines = resources.files(__package__).joinpath("server_names.txt").read_text().splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


@cache
def settable_names() -> frozenset[str]:
    """The variables that do something, so that a misspelt one may have meant one of them."""
    return frozenset(name for name, status in known_names().items() if status not in NO_SUGGESTION)


def find_env_warnings(env: Iterable[Manifest], known: Mapping[str, str], settable: frozenset[str]) -> list[str]:
    """One sentence for each variable without effect, and for each that is not known but near one that can be set."""
    sentences = []
    for name in (variable["name"] for variable in env):
        if reason := NO_EFFECT_REASONS.get(known.get(name, "")):
            sentences.append(f"spec.env: {name} has no effect: {reason}")
        elif name not in known and (nearest := _find_nearest(name, settable)):
            sentences.append(f"spec.env: {name} is not known to the server; did you mean {nearest}?")
    return sentences


_find_nearest = lru_cache(maxsize=1024)(find_nearest)
"""The same names are asked for at each pass over an endpoint."""
