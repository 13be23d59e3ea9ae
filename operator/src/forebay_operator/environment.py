"""Which of the user's variables are probably misspelt.

The names that a server understands stand in server_names.txt, which is made from the server's own parser
(`make names`); a test compares the two. A name that is near a known one is reported with it. Any other unknown name
may mean something to a library in the pod, so it passes.
"""

from collections.abc import Iterable
from functools import cache
from importlib import resources

from forebay_operator.types import Manifest

MAX_DISTANCE = 2
"""Edits between two names that still count as a slip."""

MIN_LENGTH = 6
"""Shorter names are within two edits of too much to be judged."""


@cache
def known_names() -> frozenset[str]:
    """Every variable that the server image of this release understands."""
    return frozenset(resources.files(__package__).joinpath("server_names.txt").read_text().split())


def find_misspelt(env: Iterable[Manifest], known: frozenset[str]) -> list[str]:
    """One sentence for each variable whose name is not known but near a known one."""
    sentences = []
    for variable in env:
        name = variable["name"]
        if name in known or len(name) < MIN_LENGTH:
            continue
        distance, nearest = min(
            ((edit_distance(name, other), other) for other in known), default=(MAX_DISTANCE + 1, "")
        )
        if distance <= MAX_DISTANCE:
            sentences.append(f"spec.env: {name} is not known to the server; did you mean {nearest}?")
    return sentences


def edit_distance(one: str, other: str) -> int:
    """Least number of letters to insert, delete or replace to make one of the other (Levenshtein)."""
    if abs(len(one) - len(other)) > MAX_DISTANCE:
        return MAX_DISTANCE + 1
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, against in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (letter != against))
    return row[-1]
