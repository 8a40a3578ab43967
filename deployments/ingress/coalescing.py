"""How long an ingress waits before it hands on a stream's next delta: not at all, until it has little time to spare.

Each delta that leaves costs the ingress and the proxy behind it about as much CPU as ten tokens cost that are joined to
one. So a process that is busy joins two or three of a stream, and has time for more streams. Pure: clocks are given.
"""

from collections.abc import Callable

MEASURED_EVERY_S = 0.25
BUSY_FROM = 0.6
"""Of one core's time: below it no delta waits."""
LONGEST_HOLD_S = 0.03
"""Of a stream at 50 tokens a second that is two tokens at a time: a reader sees no difference."""
FULL_HOLD_AT = 0.85
"""Of one core's time: from here on a delta waits for the longest time."""


class Coalescing:
    """Watches how busy this process is.

    Args:
        clock: Seconds of wall time, never going back.
        cpu_clock: Seconds of CPU time of this process.
    """

    def __init__(self, clock: Callable[[], float], cpu_clock: Callable[[], float]) -> None:
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._measured_at = clock()
        self._cpu_then = cpu_clock()
        self._hold_s = 0.0

    def hold_s(self) -> float:
        """Seconds between two deltas of a stream, at least."""
        now = self._clock()
        passed = now - self._measured_at
        if passed >= MEASURED_EVERY_S:
            cpu = self._cpu_clock()
            busy = (cpu - self._cpu_then) / passed
            self._measured_at, self._cpu_then = now, cpu
            share = (busy - BUSY_FROM) / (FULL_HOLD_AT - BUSY_FROM)
            self._hold_s = LONGEST_HOLD_S * min(max(share, 0.0), 1.0)
        return self._hold_s
