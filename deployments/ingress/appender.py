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
from dataclasses import dataclass
from typing import Any

from graph.contracts import LogAck
from graph.errors import RheostatError, Unavailable, as_rheostat_error

logger = logging.getLogger(__name__)
Row = Mapping[str, Any]
Outcome = LogAck | RheostatError
MAX_GROUP_CHARS = 1 << 20
"""Ray Serve's gRPC messages end at 4 MiB, and a character takes at most 4 bytes."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    row: Row
    chars: int
    until: float
    """On the loop's clock: when it is not tried again."""
    future: "asyncio.Future[Outcome]"


class Appender:
    """Gives every row its acknowledgement or its error, whoever still waits.

    Args:
        send: Takes a group; returns an outcome a row, in order, or raises for all of them.
        max_rows: Of a group.
        max_calls: Under way at once: one on the disk, one on its way there.
        max_queued_rows: That may wait for a call; more are refused at once.
        max_queued_chars: The same, of their texts.
        retry_s: A log that has no live replica just now (``not_ready``) is tried again for so long after a row came;
            rows are known by their event_id, so a repeat is harmless.
        pause_s: Between two tries.
    """

    def __init__(
        self,
        send: Callable[[list[Row]], Awaitable[Sequence[Outcome]]],
        *,
        max_rows: int = 256,
        max_calls: int = 2,
        max_queued_rows: int = 8192,
        max_queued_chars: int = 64 << 20,
        retry_s: float = 10.0,
        pause_s: float = 0.1,
    ) -> None:
        self._send = send
        self._max_rows = max_rows
        self._max_calls = max_calls
        self._max_queued_rows = max_queued_rows
        self._max_queued_chars = max_queued_chars
        self._retry_s = retry_s
        self._pause_s = pause_s
        self._queue: deque[_Waiting] = deque()
        self._queued_chars = 0
        self._calls: set[asyncio.Task[None]] = set()

    async def append(self, rows: Sequence[Row]) -> list[Outcome]:
        """An outcome a row, in order. Rows that were taken are sent even if the caller is cancelled."""
        loop = asyncio.get_running_loop()
        sizes = [_chars(row) for row in rows]
        too_many = len(self._queue) + len(rows) > self._max_queued_rows
        if self._queue and (too_many or self._queued_chars + sum(sizes) > self._max_queued_chars):
            text = f"{len(self._queue)} rows wait for the feedback log; try again in a few seconds."
            return [Unavailable(text) for _ in rows]
        until = loop.time() + self._retry_s
        taken = [_Waiting(row, chars, until, loop.create_future()) for row, chars in zip(rows, sizes, strict=True)]
        self._queue.extend(taken)
        self._queued_chars += sum(sizes)
        self._start_calls()
        return [await waiting.future for waiting in taken]

    def _start_calls(self) -> None:
        while self._queue and len(self._calls) < self._max_calls:
            task = asyncio.get_running_loop().create_task(self._call(self._take()), context=contextvars.Context())
            self._calls.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._start_calls()

    def _take(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        chars = 0
        while self._queue and len(group) < self._max_rows:
            chars += self._queue[0].chars
            if group and chars > MAX_GROUP_CHARS:
                break
            group.append(self._queue.popleft())
        self._queued_chars -= sum(waiting.chars for waiting in group)
        return group

    async def _call(self, group: list[_Waiting]) -> None:
        try:
            while group:
                group = await self._try(group)
        except Exception as error:
            logger.exception("sending rows to the log failed")
            _resolve(group, [as_rheostat_error(error)] * len(group))
        finally:
            # Cancelled, for the loop ends: nobody may wait for ever.
            _resolve(group, [Unavailable("The feedback log is not available.", code="not_ready")] * len(group))

    async def _try(self, group: list[_Waiting]) -> list[_Waiting]:
        """Sends the group once; what is to be tried again."""
        try:
            outcomes = await self._send([waiting.row for waiting in group])
        except RheostatError as error:
            now = asyncio.get_running_loop().time()
            again = [waiting for waiting in group if error.code == "not_ready" and now < waiting.until]
            rest = [waiting for waiting in group if error.code != "not_ready" or now >= waiting.until]
            _resolve(rest, [error] * len(rest))
            if again:
                await asyncio.sleep(self._pause_s)
            return again
        if len(outcomes) != len(group):
            raise RuntimeError(f"the log gave {len(outcomes)} outcomes for {len(group)} rows")
        _resolve(group, outcomes)
        return []


def _resolve(group: Sequence[_Waiting], outcomes: Sequence[Outcome]) -> None:
    for waiting, outcome in zip(group, outcomes, strict=True):
        if not waiting.future.done():
            waiting.future.set_result(outcome)


def _chars(row: Row) -> int:
    return sum(len(value) for value in row.values() if type(value) is str)
