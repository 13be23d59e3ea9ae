"""Telling others of an event without knowing them."""

from collections.abc import Callable
from typing import Generic, ParamSpec

P = ParamSpec("P")


class Observers(Generic[P]):
    """The callbacks of one kind of event, which gets the arguments P."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[P, object]] = []

    def add(self, callback: Callable[P, object]) -> None:
        """Have it called at each event from now on, after those that were added before."""
        self._callbacks.append(callback)

    def notify(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call all of them."""
        for callback in self._callbacks:
            callback(*args, **kwargs)
