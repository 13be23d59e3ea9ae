"""Suggests the known name for a misspelt one.

Messages about unknown fields, paths, variables and values use it.
"""

from collections.abc import Iterable

SHORT, MEDIUM = 2, 5
"""A name of up to SHORT letters allows no edit. A name of up to MEDIUM letters allows one edit. Longer names allow two
edits."""


def find_nearest(name: str, known: Iterable[str]) -> str:
    """Find the known name that `name` is a misspelling of. Returns "" if there is none.

    A name that is equal after `fold` is the nearest. Of several names with the same distance, the first in the alphabet
    is the nearest.
    """
    known, folded = list(known), fold(name)
    if alike := min((other for other in known if other != name and fold(other) == folded), default=""):
        return alike
    limit = (len(name) > SHORT) + (len(name) > MEDIUM)
    similar = (other for other in known if abs(len(name) - len(other)) <= limit)
    distance, other = min(((edit_distance(name, like, limit), like) for like in similar), default=(limit + 1, ""))
    return other if distance <= limit else ""


def fold(name: str) -> str:
    """Normalize a name: upper case, underscores for hyphens and dots, and no blanks around it."""
    return name.strip().upper().replace("-", "_").replace(".", "_")


def edit_distance(left: str, right: str, limit: int) -> int:
    """The number of letters to insert, delete, replace or swap with the next letter; limit + 1 if this is more than
    `limit`.

    This is the optimal string alignment distance. Python's difflib computes a ratio instead, by which all names of one
    vendor's variables are similar.
    """
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        following = [i]
        for j, b in enumerate(right, 1):
            cost = min(row[j] + 1, following[j - 1] + 1, row[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and b == left[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            following.append(cost)
        if min(following) > limit:
            return limit + 1
        before, row = row, following
    return min(row[-1], limit + 1)


def suggest(word: str, known: Iterable[str]) -> str:
    """The sentence " Did you mean …?" with a space before it, or ""."""
    nearest = find_nearest(word, known)
    return f" Did you mean {nearest}?" if nearest else ""
