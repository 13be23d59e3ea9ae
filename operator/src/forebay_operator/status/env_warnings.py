"""Finds variables of the user that are probably misspelt, or that have no effect. The reconciler calls it.

server_names.txt has the names that a server with the chart's default vLLM understands, with their status. `make names`
writes it from the server's own parser, and a test compares the two. A pod with another vLLM may know other names:
pod_variables.py finds the differences. Other unknown names pass, because a library in the pod may read them.
"""

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from importlib import resources
from itertools import islice

from forebay_operator.spec import Manifest
from forebay_protocol.spelling import find_nearest

ABSENT = "absent"
"""The status of a name that the vLLM of the pod does not know."""

NO_EFFECT_REASONS = {
    ABSENT: "the vLLM of the image does not know it",
    "removed": "vLLM has removed it",
    "reserved": "it never sets a flag of vLLM",
    "not-yet": "it is not supported yet",
}
"""Status of a name that the server ignores -> the reason for it."""

NO_SUGGESTION = {*NO_EFFECT_REASONS, "refused"}


MAX_COMPARED_NAMES = 64
"""Unknown names of one endpoint that are compared with the settable ones. Each comparison takes a millisecond."""


@cache
def known_names() -> Mapping[str, str]:
    """Every variable that the server image of this release knows, with its status."""
    lines = resources.files(__package__).joinpath("server_names.txt").read_text().splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


@cache
def settable_names() -> frozenset[str]:
    """The variables that have an effect. Only these are suggested for a misspelt name."""
    return frozenset(name for name, status in known_names().items() if status not in NO_SUGGESTION)


def names_in_pod(differences: Mapping[str, str]) -> tuple[Mapping[str, str], frozenset[str]]:
    """Return the known names and the settable names of a pod whose vLLM has these `differences` (pod_variables.py)."""
    if not differences:
        return known_names(), settable_names()
    known = {**known_names(), **differences}
    return known, frozenset(name for name in settable_names() | differences.keys() if known[name] not in NO_SUGGESTION)


def find_env_warnings(env: Iterable[Manifest], known: Mapping[str, str], settable: frozenset[str]) -> list[str]:
    """One sentence for each variable without effect, and for each unknown one that resembles a settable one."""
    warnings = []
    names = [variable["name"] for variable in env]
    compared = set(islice((name for name in names if name not in known), MAX_COMPARED_NAMES))
    for name in names:
        if reason := NO_EFFECT_REASONS.get(known.get(name, "")):
            warnings.append(f"spec.env: {name} has no effect: {reason}")
        elif name in compared and (nearest := _find_nearest(name, settable)):
            warnings.append(f"spec.env: {name} is not known to the server; did you mean {nearest}?")
    return warnings


_find_nearest = lru_cache(maxsize=1024)(find_nearest)
"""Cached, because each pass over an endpoint looks up the same names."""
