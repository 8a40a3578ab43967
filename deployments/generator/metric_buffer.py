"""Gauges and counters kept for a moment and passed on together. Pure: a timer is given.

An engine tells a dozen gauges and counters at each step, and Ray takes 2 us for each, beside a model that computes on
the same cores. Nobody looks more often than once a second. A histogram's values are not for here: each has to be passed
on, and a second's worth of a fast engine at once would hold up the event loop.
"""

from collections.abc import Callable, Hashable

EVERY_S = 1.0
"""Ray's own exporter publishes every five seconds or ten."""


class MetricBuffer:
    """Keeps a gauge's last value and a counter's sum, each under its own key.

    Args:
        later: Calls a function once, after so many seconds; such as ``loop.call_later``.
        every_s: How long the first of what is kept waits.
    """

    def __init__(self, later: Callable[[float, Callable[[], None]], object], every_s: float = EVERY_S) -> None:
        self._later = later
        self._every_s = every_s
        self._is_due = False
        self._set: dict[Hashable, tuple[Callable[[float], object], float]] = {}
        self._added: dict[Hashable, tuple[Callable[[float], object], float]] = {}

    def set(self, key: Hashable, pass_on: Callable[[float], object], value: float) -> None:
        """A gauge is ``value`` now."""
        self._set[key] = (pass_on, value)
        self._start()

    def add(self, key: Hashable, pass_on: Callable[[float], object], value: float) -> None:
        """A counter has ``value`` more."""
        before = self._added.get(key)
        self._added[key] = (pass_on, value if before is None else before[1] + value)
        self._start()

    def flush(self) -> None:
        """Passes on all that is kept."""
        self._is_due = False
        kept = [*self._set.values(), *self._added.values()]
        self._set, self._added = {}, {}
        for pass_on, value in kept:
            pass_on(value)

    def _start(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._later(self._every_s, self.flush)
