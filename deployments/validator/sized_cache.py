"""A cache that is bounded by the size of what it keeps, not by the number of entries.

A system prompt may have ten words or a hundred thousand: so many indexes of large ones would fill the memory.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["SizedCache"]

_Value = TypeVar("_Value")


class SizedCache(Generic[_Value]):
    """Keeps values up to a total size. Thread-safe; two threads that miss at once both make the value.

    The least recently used values go first. The newest stays however large it is: it is about to be asked for again.
    """

    def __init__(self, limit: int, measure: Callable[[_Value], int]) -> None:
        """``limit`` is in the unit in which ``measure`` tells the size of a value."""
        self._limit = limit
        self._measure = measure
        self._values: OrderedDict[Hashable, _Value] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Of all values together."""
        return self._size

    def get(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        """The value of ``key``; made, and kept, if it is not there. Raises what ``make`` raises."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            if key not in self._values:
                self._size += self._measure(value)
            self._values[key] = value
            while self._size > self._limit and len(self._values) > 1:
                _, oldest = self._values.popitem(last=False)
                self._size -= self._measure(oldest)
        return value
