"""The FeedbackLog deployment: one writer a replica; a row is acknowledged when it is on disk."""

import asyncio
from dataclasses import asdict
from typing import Any

from ray import serve

from deployments.feedback.segment_writer import RotationLimits
from deployments.feedback.writer import LogWriter
from graph.contracts import LogAck
from graph.errors import Unavailable
from graph.settings import AppArgs, FeedbackTunables, project_path


@serve.deployment(
    name="FeedbackLog",
    # The writer's own queue is the bound; it refuses with 503, and this must not refuse before it.
    max_ongoing_requests=16_384,
    max_queued_requests=16_384,
    health_check_period_s=5,
    graceful_shutdown_timeout_s=60,
    graceful_shutdown_wait_loop_s=1,
)
class FeedbackLog:
    """Shell of ``LogWriter``. Stops after its callers, which hold handles to it, so that nothing comes too late."""

    def __init__(self, args: dict[str, Any]) -> None:
        folder = project_path(AppArgs.model_validate(args).data_dir) / "log"
        self._writer = LogWriter(folder)

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        tunables = FeedbackTunables.model_validate(user_config)
        limits = RotationLimits(
            max_bytes=tunables.segment_max_bytes,
            max_rows=tunables.segment_max_rows,
            max_age_s=tunables.segment_max_age_s,
        )
        self._writer.reconfigure(queue_limit=tunables.queue_limit, limits=limits)

    async def append(self, row: dict[str, Any]) -> LogAck:
        return await asyncio.wrap_future(self._writer.submit(row))

    async def stats(self) -> dict[str, Any]:
        return asdict(self._writer.stats)

    def check_health(self) -> None:
        if not self._writer.healthy:
            raise Unavailable("The feedback log could not write; the replica must be replaced.")

    def __del__(self) -> None:
        writer = getattr(self, "_writer", None)
        if writer is not None:
            writer.close()
