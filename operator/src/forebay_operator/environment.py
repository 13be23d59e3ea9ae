"""Which of the user's variables are probably misspelt.

The names that a server understands stand in server_names.txt, which is made from the server's own parser
(`make names`); a test compares the two. A name that is near a known one is reported with it. Any other unknown name
may mean something to a library in the pod, so it passes.
"""

from collections.abc import Iterable
from functools import cache, lru_cache
from importlib import resources

from forebay_operator.types import Manifest

MAX_DISTANCE = 2
"""Slips between two names that still count as one name misspelt; one for names of up to five letters."""


@cache
def known_names() -> frozenset[str]:
    """Every variable that the server image of this release understands."""
    return frozenset(resources.files(__package__).joinpath("server_names.txt").read_text().split())


def find_misspelt(env: Iterable[Manifest], known: frozenset[str]) -> list[str]:
    """One sentence for each variable whose name is not known but near a known one."""
    sentences = []
    for name in (variable["name"] for variable in env):
        if name not in known and (nearest := find_nearest(name, known)):
            sentences.append(f"spec.env: {name} is not known to the server; did you mean {nearest}?")
    return sentences


@lru_cache(maxsize=1024)
def find_nearest(name: str, known: frozenset[str]) -> str:
    """The known name that `name` is a slip of, or nothing."""
    limit = MAX_DISTANCE if len(name) > 5 else 1
    similar = [other for other in known if abs(len(name) - len(other)) <= limit]
    distance, other = min(((count_slips(name, other), other) for other in similar), default=(limit + 1, ""))
    return other if distance <= limit else ""


def count_slips(one: str, other: str) -> int:
    """Least number of letters to insert, delete, replace or swap with the next (optimal string alignment distance)."""
    before, row = [0] * (len(other) + 1), list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        following = [i]
        for j, against in enumerate(other, 1):
            count = min(row[j] + 1, following[-1] + 1, row[j - 1] + (letter != against))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == against:
                count = min(count, before[j - 2] + 1)
            following.append(count)
        before, row = row, following
    return row[-1]
