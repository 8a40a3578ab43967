"""Answers that were recorded and then never left: which ones, and the rows that say so.

An answer is in the log before it leaves. When the request fails after that, because another choice of it failed or the
client went away, a row marks the answer, so that it does not count as served. The chat service calls it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from deployments.feedback.markers import undelivered_row
from graph.contracts import LogAck
from graph.errors import RheostatError
from graph.pipeline import Stages

logger = logging.getLogger(__name__)
AppendMany = Callable[[Sequence[Mapping[str, Any]]], Awaitable[Sequence[LogAck | RheostatError]]]
"""Puts rows into the log; an outcome a row, in order."""


class WatchedStages:
    """The stages of one choice, and whether its row was sent to the log: from then on it may be there."""

    def __init__(self, stages: Stages) -> None:
        self.generate, self.judge, self.format = stages.generate, stages.judge, stages.format
        self._record = stages.record
        self.is_recorded = False

    async def record(self, row: Mapping[str, Any]) -> LogAck:
        self.is_recorded = True
        return await self._record(row)


class UndeliveredMarks:
    """Marks answers, in tasks of its own: nobody has to wait, and a request that is cancelled does not stop it."""

    def __init__(self, append_many: AppendMany) -> None:
        self._append_many = append_many
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, generation_ids: Sequence[str], tenant: str) -> asyncio.Task[None] | None:
        """Marks these answers; the task ends when the log has said yes or no. None: there is nothing to mark."""
        if not generation_ids:
            return None
        now_us = time.time_ns() // 1000
        rows = [undelivered_row(generation_id, tenant, now_us) for generation_id in generation_ids]
        task = asyncio.create_task(self._append(rows))
        # The event loop itself holds tasks only weakly.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        try:
            outcomes = await self._append_many(rows)
        except Exception:
            logger.exception("%d undelivered answers could not be marked", len(rows))
            return
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, RheostatError):
                logger.error("answer %s could not be marked as undelivered: %s", row["generation_id"], outcome.message)
