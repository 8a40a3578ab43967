"""Who is next: a queue of requests that is fair between tenants, and first come, first served within one. Pure."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class Entry(Protocol):
    """What can wait here. Compared by identity."""

    @property
    def tenant(self) -> str: ...

    @property
    def count(self) -> int:
        """Places that it needs, all at once."""
        ...


E = TypeVar("E", bound=Entry)


@dataclass(slots=True)
class _Line(Generic[E]):
    """One tenant's requests, oldest first."""

    start: int
    """Virtual time at which the oldest begins, or the next one where none waits."""
    entries: deque[tuple[int, E]] = field(default_factory=deque)
    """With the number of their arrival."""
    waiting: int = 0
    """Places that they need together."""

    def starts(self) -> Iterator[tuple[int, int, E]]:
        """Virtual start, number of arrival, request."""
        start = self.start
        for number, entry in self.entries:
            yield start, number, entry
            start += entry.count


class FairQueue(Generic[E]):
    """Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996), with places as the length of a request.

    Virtual time counts places. The request with the earliest virtual start is next: that of the tenant that had the
    fewest places. A tenant that comes back starts at the virtual time of what was served last: it has saved nothing up.
    Unlike in the paper, starts are counted from the head of each tenant's line, not stamped on arrival, so a request
    that leaves unserved costs its tenant nothing.
    """

    def __init__(self) -> None:
        self._lines: dict[str, _Line[E]] = {}
        self._virtual_time = 0
        self._arrivals = 0
        self.waiting = 0
        """Places that all need together."""

    def push(self, entry: E) -> None:
        """``entry`` waits from now on, behind its tenant's others."""
        line = self._lines.setdefault(entry.tenant, _Line(self._virtual_time))
        if not line.entries:
            line.start = max(line.start, self._virtual_time)
        self._arrivals += 1
        line.entries.append((self._arrivals, entry))
        line.waiting += entry.count
        self.waiting += entry.count

    def head(self) -> E | None:
        """Who is next; None: nobody waits."""
        lines = [line for line in self._lines.values() if line.entries]
        if not lines:
            return None
        return min(lines, key=lambda line: (line.start, line.entries[0][0])).entries[0][1]

    def serve_head(self) -> None:
        """The head gets its places."""
        entry = self.head()
        assert entry is not None
        line = self._lines[entry.tenant]
        self._virtual_time = line.start
        line.start += entry.count
        self.remove(entry)

    def remove(self, entry: E) -> None:
        """``entry``, which waits, does so no longer."""
        line = self._lines[entry.tenant]
        line.entries.remove(next(each for each in line.entries if each[1] is entry))
        line.waiting -= entry.count
        self.waiting -= entry.count
        if not self.waiting:
            # Whoever comes next finds nobody to be fair to; and tenants that are gone are forgotten.
            self._lines.clear()
            self._virtual_time = 0

    def before_next(self, tenant: str) -> int:
        """Places that are given to others before a request of ``tenant`` that came now."""
        start = self._start_of_next(tenant)
        before = 0
        for name, line in self._lines.items():
            if name == tenant or start >= line.start + line.waiting:
                before += line.waiting
                continue
            for begins, _, entry in line.starts():
                if begins > start:
                    break
                before += entry.count
        return before

    def last_first(self, behind: str | None = None) -> list[E]:
        """All that wait, the last one first.

        Args:
            behind: Only those who would be served after a request of this tenant that came now.
        """
        least = -1 if behind is None else self._start_of_next(behind)
        lines = (line for name, line in self._lines.items() if name != behind)
        found = [each for line in lines for each in line.starts() if each[0] > least]
        return [entry for *_, entry in sorted(found, key=lambda each: each[:2], reverse=True)]

    def _start_of_next(self, tenant: str) -> int:
        line = self._lines.get(tenant)
        if line is None:
            return self._virtual_time
        return line.start + line.waiting if line.entries else max(line.start, self._virtual_time)
