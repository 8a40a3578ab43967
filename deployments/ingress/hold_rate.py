"""How long places are held, estimated from those that were given back and from those still held. Pure."""

MIN_RELEASES = 8
"""Before so many places were given back nothing is known: the first to come back are the shortest."""
MIN_WINDOW = 32
"""Releases that the estimate remembers at least; with an exponential spread its error is then about a sixth."""


class HoldRate:
    """Mean seconds that a place is held: place-seconds of use by releases, both fading with each release.

    The occurrence-exposure rate, upside down: the maximum-likelihood estimate from lifetimes of which some are not over
    yet (D. R. Cox and D. Oakes, Analysis of Survival Data, 1984, chapter 3). Places that are still held count with the
    time that they were held so far, so an engine that stops giving answers looks slow at once, which a mean over
    finished ones would not show. Fading is by releases and not by time: nothing is forgotten while nobody asks.
    """

    def __init__(self) -> None:
        self._releases = 0.0
        self._place_seconds = 0.0
        self._now = 0.0
        self._seen = 0

    def advance(self, held: int, now: float) -> None:
        """Time went on to ``now`` (seconds) with ``held`` places in use. To be called before that number changes."""
        self._place_seconds += held * max(0.0, now - self._now)
        self._now = max(self._now, now)

    def released(self, count: int, window: int) -> None:
        """``count`` places were given back just now.

        Args:
            window: How many releases are remembered (at least ``MIN_WINDOW``). The number of places is right: answers
                that begin together end together, and a shorter memory would take each such wave for a change.
        """
        fading = (1 - 1 / max(window, MIN_WINDOW)) ** count
        self._releases = (self._releases + count) * fading
        self._place_seconds *= fading
        self._seen += count

    @property
    def mean_s(self) -> float | None:
        """Seconds; None: not known yet."""
        return None if self._seen < MIN_RELEASES else self._place_seconds / self._releases
