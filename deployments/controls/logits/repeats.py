"""What followed the last few tokens of an answer before, token by token. Pure; ``shaping.read_repeats`` is its twin for
whole rows, and a property test holds the two equal."""

from collections import Counter
from collections.abc import Mapping


class Repeats:
    """Fed each token of an answer once; memory grows with the answer."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._tail: tuple[int, ...] = ()
        self._followed: dict[tuple[int, ...], Counter[int]] = {}

    def feed(self, token: int) -> None:
        if len(self._tail) == self._length:
            self._followed.setdefault(self._tail, Counter())[token] += 1
        self._tail = (*self._tail, token)[-self._length :]

    def following(self) -> Mapping[int, int]:
        """How often each token followed the last ``length`` tokens so far; empty where they are new."""
        return self._followed.get(self._tail, {})
