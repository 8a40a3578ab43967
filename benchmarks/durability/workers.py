"""Spreads many independent checks over the cores, in order: in forked processes, or in this one."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import pyarrow as pa  # type: ignore[import-untyped]

_Work = TypeVar("_Work")
_Result = TypeVar("_Result")


def _begin() -> None:
    pa.set_cpu_count(1)  # each process has a core; more threads would only wait for each other


class Workers:
    """Forked processes that share work; enter it before this process starts threads, which a fork does not copy.

    Args:
        processes: How many; 1: none but this one.
    """

    def __init__(self, processes: int) -> None:
        self._pool = multiprocessing.get_context("fork").Pool(processes, _begin) if processes > 1 else None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._pool is None:
            return
        if error is None:
            self._pool.close()
        else:
            self._pool.terminate()
        self._pool.join()

    def map(self, work: Callable[[_Work], _Result], items: Iterable[_Work]) -> Iterator[_Result]:
        """Yield what ``work`` returns of each item, in order; items are taken as they are needed."""
        return map(work, items) if self._pool is None else self._pool.imap(work, items, chunksize=8)
