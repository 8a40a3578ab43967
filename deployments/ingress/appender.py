"""Rows on their way from the ingress to the log: grouped, kept apart from their requests, tried again. No Ray, no HTTP.

A call of a handle costs about a millisecond of CPU whatever it carries. So rows are sent in groups, without any wait:
while calls are under way, the rows that come pile up and go with the next. Calls run outside the requests' contexts,
so that a client that goes away takes neither its row nor its neighbours' along.
"""

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from graph.contracts import LogAck
from graph.errors import RheostatError, as_rheostat_error

logger = logging.getLogger(__name__)
Row = Mapping[str, Any]
Outcome = LogAck | RheostatError
MAX_GROUP_CHARS = 1 << 20
"""Ray Serve's gRPC messages end at 4 MiB, and a character takes at most 4 bytes."""


class Appender:
    """Gives every row its acknowledgement or its error, whoever still waits.

    Args:
        send: Takes a group; returns an outcome a row, in order, or raises for all of them.
        max_rows: Of a group.
        max_calls: Under way at once: one on the disk, one on its way there.
        retry_s: A log that has no live replica just now (``not_ready``) is tried again for this long; rows are known
            by their event_id, so a repeat is harmless.
        pause_s: Between two tries.
    """

    def __init__(
        self,
        send: Callable[[list[Row]], Awaitable[Sequence[Outcome]]],
        *,
        max_rows: int = 256,
        max_calls: int = 2,
        retry_s: float = 10.0,
        pause_s: float = 0.1,
    ) -> None:
        self._send = send
        self._max_rows = max_rows
        self._max_calls = max_calls
        self._retry_s = retry_s
        self._pause_s = pause_s
        self._queue: deque[tuple[Row, asyncio.Future[Outcome]]] = deque()
        self._calls: set[asyncio.Task[None]] = set()

    async def append(self, rows: Sequence[Row]) -> list[Outcome]:
        """An outcome a row, in order. Rows that were taken are sent even if the caller is cancelled."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Outcome]] = [loop.create_future() for _ in rows]
        self._queue.extend(zip(rows, futures, strict=True))
        self._start_calls()
        return [await future for future in futures]

    def _start_calls(self) -> None:
        while self._queue and len(self._calls) < self._max_calls:
            task = asyncio.get_running_loop().create_task(self._call(self._take()), context=contextvars.Context())
            self._calls.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._start_calls()

    def _take(self) -> list[tuple[Row, asyncio.Future[Outcome]]]:
        group = [self._queue.popleft()]
        chars = _chars(group[0][0])
        while self._queue and len(group) < self._max_rows:
            chars += _chars(self._queue[0][0])
            if chars > MAX_GROUP_CHARS:
                break
            group.append(self._queue.popleft())
        return group

    async def _call(self, group: list[tuple[Row, asyncio.Future[Outcome]]]) -> None:
        outcomes = await self._outcomes([row for row, _ in group])
        for (_, future), outcome in zip(group, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)

    async def _outcomes(self, rows: list[Row]) -> Sequence[Outcome]:
        until = asyncio.get_running_loop().time() + self._retry_s
        while True:
            try:
                return await self._send(rows)
            except RheostatError as error:
                if error.code != "not_ready" or asyncio.get_running_loop().time() >= until:
                    return [error] * len(rows)
            except Exception:
                logger.exception("sending rows to the log failed")
                return [as_rheostat_error(RuntimeError())] * len(rows)
            await asyncio.sleep(self._pause_s)


def _chars(row: Row) -> int:
    return sum(len(value) for value in row.values() if type(value) is str)
