"""How much the service takes on at once: what is beyond it is refused before any work is done for it. Pure."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from graph.errors import Overloaded


class Admission:
    """Counts the answers in the making and the texts being judged, of all requests together.

    Args:
        limit: Read anew for each request, so that a new configuration applies to the next one.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._inflight = 0

    @contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """Holds ``count`` places while the block runs.

        Raises:
            Overloaded: There are not that many.
        """
        limit = self._limit()
        if self._inflight + count > limit:
            raise Overloaded(f"{self._inflight} answers are in the making, the limit is {limit}; try again soon.")
        self._inflight += count
        try:
            yield
        finally:
            self._inflight -= count
