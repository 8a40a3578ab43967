"""The FeedbackLog deployment: one log writer a replica; a row is acknowledged when it is on disk."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import serve

from deployments.feedback.jobs import do_for_ever, run_job
from deployments.feedback.lineage import adapters_trained_on
from deployments.feedback.lookup import LogReader
from deployments.feedback.segment_writer import RotationLimits
from deployments.feedback.telemetry import LogTelemetry
from deployments.feedback.writer import Commit, LogWriter
from graph.contracts import LogAck
from graph.errors import ConfigurationError, RheostatError, Unavailable
from graph.settings import AppArgs, FeedbackTunables, project_path

SAMPLE_EVERY_S = 1.0
"""Ray forgets a gauge that was not set for about two of its report intervals."""
FOLLOW_EVERY_S = 1.0
REPORT_TIMEOUT_S = 60.0
CHORE_TIMEOUT_S = 3600.0
"""A backstop: a first compaction of a year's log is long, and nothing waits for it."""


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
    """Shell of ``LogWriter`` and ``LogReader``. Stops after its callers, which hold handles: nothing comes too late."""

    async def __init__(self, args: dict[str, Any]) -> None:  # type: ignore[misc]  # Serve awaits it
        settings = AppArgs.model_validate(args)
        self._root = project_path(settings.data_dir) / "log"
        self._metrics_file = project_path(settings.metrics_file)
        self._tunables = FeedbackTunables()
        self._telemetry = LogTelemetry()
        loop = asyncio.get_running_loop()
        self._writer = await asyncio.to_thread(open_writer, self._root, loop, self._telemetry.committed)
        self._reader = LogReader(self._root)
        await asyncio.to_thread(self._reader.follow)
        self._reporting = asyncio.Lock()
        self._retuned = asyncio.Event()
        self._chores = [
            loop.create_task(do_for_ever(self._sample, SAMPLE_EVERY_S)),
            # In small steps: a look-up that finds a million new rows would hold up acknowledgements.
            loop.create_task(do_for_ever(lambda: asyncio.to_thread(self._reader.follow), FOLLOW_EVERY_S)),
            loop.create_task(do_for_ever(self._keep_house, 0.0)),
        ]

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        self._tunables = tunables = FeedbackTunables.model_validate(user_config)
        limits = RotationLimits(
            max_bytes=tunables.segment_max_bytes,
            max_rows=tunables.segment_max_rows,
            max_age_s=tunables.segment_max_age_s,
        )
        self._writer.reconfigure(queue_limit=tunables.queue_limit, limits=limits)
        self._retuned.set()

    async def append_many(self, rows: Sequence[dict[str, Any]]) -> list[LogAck | RheostatError]:
        """An outcome a row, in order; one that is refused stops no other."""
        submitted = [self._submit(row) for row in rows]
        outcomes = [await _outcome(one) for one in submitted]
        self._telemetry.accepted(
            row
            for row, outcome in zip(rows, outcomes, strict=True)
            if isinstance(outcome, LogAck) and not outcome.duplicate
        )
        return outcomes

    async def find_event(self, event_id: str) -> dict[str, Any] | None:
        return await asyncio.to_thread(self._reader.event, event_id)

    async def find_generation(self, generation_id: str) -> dict[str, Any] | None:
        return await asyncio.to_thread(self._reader.generation, generation_id)

    async def events_about(self, generation_id: str) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self._reader.about, generation_id)

    async def ids_about(self, generation_id: str) -> list[str]:
        return await asyncio.to_thread(self._reader.ids_about, generation_id)

    async def adapters_trained_on(self, event_ids: list[str]) -> list[str]:
        return list(await asyncio.to_thread(adapters_trained_on, self._root, event_ids))

    async def analysis(self, since_s: float | None) -> dict[str, Any]:
        since = "all" if since_s is None else f"{since_s:.0f}s"
        arguments = ("report", "--log", self._root, "--metrics", self._metrics_file, "--since", since, "--json", "-")
        # One at a time: each takes a core and hundreds of megabytes.
        async with self._reporting:
            return await run_job("deployments.feedback.analysis", *map(str, arguments), timeout_s=REPORT_TIMEOUT_S)

    async def stats(self) -> dict[str, Any]:
        return asdict(self._writer.stats)

    def check_health(self) -> None:
        if not self._writer.healthy:
            raise Unavailable("The feedback log could not write; the replica must be replaced.")

    async def __del__(self) -> None:
        for chore in getattr(self, "_chores", ()):
            chore.cancel()
        writer = getattr(self, "_writer", None)
        if writer is not None:
            # In a thread: the futures that it resolves belong to this loop.
            await asyncio.to_thread(writer.close)

    def _submit(self, row: dict[str, Any]) -> Any:
        try:
            return self._writer.submit(row)
        except RheostatError as error:
            return error

    async def _sample(self) -> None:
        self._telemetry.sample(self._writer.stats, self._writer.open_segment_age_s)

    async def _keep_house(self) -> None:
        """When it is time: compacts, then ships."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._retuned.wait(), self._tunables.compact_every_s)
            self._retuned.clear()
            return
        log = ("--log", str(self._root))
        await run_job("deployments.feedback.compaction", *log, "--json", "-", timeout_s=CHORE_TIMEOUT_S)
        if self._tunables.ship_to is not None:
            ship = ("push", *log, "--to", self._tunables.ship_to, "--json", "-")
            await run_job("deployments.feedback.shipping", *ship, timeout_s=CHORE_TIMEOUT_S)


async def _outcome(submitted: Any) -> LogAck | RheostatError:
    if isinstance(submitted, RheostatError):
        return submitted
    try:
        ack: LogAck = await submitted
    except RheostatError as error:
        return error
    return ack


def open_writer(root: Path, loop: asyncio.AbstractEventLoop, on_commit: Callable[[Commit], None]) -> LogWriter:
    """A writer whose futures belong to ``loop``. Blocks.

    Raises:
        ConfigurationError: The folder cannot be made, read or written.
    """
    try:
        return LogWriter(root, new_future=loop.create_future, deliver=loop.call_soon_threadsafe, on_commit=on_commit)
    except OSError as error:
        raise ConfigurationError(
            f"The feedback log at {root} cannot be opened ({error.strerror or error}). Set args.data_dir to a folder "
            "on a local disk that the service may write."
        ) from error
