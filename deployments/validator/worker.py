"""A thread for work that blocks, which knows for how long it has been at the same piece. No Ray."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

__all__ = ["Worker"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Worker:
    """One thread; what is given to it waits for its turn.

    Args:
        name: Of the thread.
        clock: Seconds, never going back.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._clock = clock
        self._since: float | None = None

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """What ``work(*args)`` returns or raises. Cancelled, it is not begun; work that runs cannot be stopped."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._timed, work, args)

    def beat(self) -> None:
        """Called from inside a long piece of work: it goes on, and a new part of it begins."""
        self._since = self._clock()

    def busy_s(self) -> float:
        """Seconds since the running piece of work began, or since its last beat; 0.0: nothing runs."""
        since = self._since
        return 0.0 if since is None else self._clock() - since

    def _timed(self, work: Callable[..., T], args: tuple[object, ...]) -> T:
        self._since = self._clock()
        try:
            return work(*args)
        finally:
            self._since = None
