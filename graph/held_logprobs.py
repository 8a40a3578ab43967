"""Logprobs of a stream, which spell its text out: held until the text itself has left. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["HeldLogprobs"]


class HeldLogprobs:
    """Lets a token's logprobs go only once its text has gone; none after the first redaction or stop."""

    def __init__(self) -> None:
        self._held: list[tuple[int, Mapping[str, Any]]] = []
        self._fed = 0
        self._spelled = 0
        self._released = 0
        self._is_silent = False

    def feed(self, entries: Sequence[Mapping[str, Any]], chars: int, *, is_silent: bool) -> None:
        """Takes the entries that came with ``chars`` characters of text.

        An engine may give a token's logprobs before its text (while it looks for a stop string, say): an entry waits
        for as many characters as the tokens so far spell.
        """
        self._is_silent = self._is_silent or is_silent
        self._fed += chars
        for entry in entries:
            self._spelled += len(entry["token"])
            self._held.append((max(self._fed, self._spelled), entry))

    def released(self, chars: int) -> None:
        self._released += chars

    def take(self, *, everything: bool) -> tuple[Mapping[str, Any], ...]:
        if self._is_silent:
            return ()
        ready = tuple(entry for end, entry in self._held if everything or end <= self._released)
        self._held = self._held[len(ready) :]
        return ready
