"""Which name somebody probably meant by one that is misspelt."""

from collections.abc import Iterable

SHORT, MEDIUM = 2, 5
"""Letters of a name up to which no edit, and up to which one edit, counts as a misspelling; two for longer ones."""


def find_nearest(name: str, known: Iterable[str]) -> str:
    """The known name that `name` is a misspelling of; "" when there is none.

    Of several equally near the first in the alphabet. One that differs by case, hyphens or blanks alone is the nearest.
    """
    known, folded = list(known), fold(name)
    if alike := min((other for other in known if other != name and fold(other) == folded), default=""):
        return alike
    limit = (len(name) > SHORT) + (len(name) > MEDIUM)
    similar = (other for other in known if abs(len(name) - len(other)) <= limit)
    distance, other = min(((edit_distance(name, each, limit), each) for each in similar), default=(limit + 1, ""))
    return other if distance <= limit else ""


def fold(name: str) -> str:
    """What is left of a name's spelling when case, hyphens, dots and blanks around it do not count."""
    return name.strip().upper().replace("-", "_").replace(".", "_")


def edit_distance(left: str, right: str, limit: int) -> int:
    """The least number of letters to insert, delete, replace or swap with the next; limit + 1 when it is more.

    This is the optimal string alignment distance. difflib, Python's own, has no distance but a ratio, by which the
    names of one vendor's variables are all alike.
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
    """The sentence " Did you mean …?" with a blank before it, or nothing."""
    nearest = find_nearest(word, known)
    return f" Did you mean {nearest}?" if nearest else ""
