"""The pipeline's stages over Ray Serve handles; the one place where Ray's errors become ours."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import ray.exceptions
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from ray.serve.handle import DeploymentHandle

from deployments.ingress.appender import Appender
from deployments.ingress.privacy import TextPolicy
from deployments.ingress.records import to_log_row
from graph.contracts import EngineInfo, FormatJob, GenerationJob, LogAck, TokenDelta, ValidationJob, Verdict
from graph.errors import InternalError, RheostatError, Unavailable

logger = logging.getLogger(__name__)
T = TypeVar("T")
READY_TIMEOUT_S = 5.0
"""A generator that says nothing for this long is not ready."""


class HandleStages:
    """See ``graph.pipeline.Stages``. Handle variants are made once: the first call of each builds a router."""

    def __init__(
        self,
        generator: DeploymentHandle[Any],
        validator: DeploymentHandle[Any],
        formatter: DeploymentHandle[Any],
        feedback_log: DeploymentHandle[Any],
        rollout: DeploymentHandle[Any],
        texts: TextPolicy = "keep",
    ) -> None:
        self._texts: TextPolicy = texts
        self._generate = _method(generator, "generate", stream=True)
        self._info = _method(generator, "info")
        self._load = _method(generator, "load")
        self._judge = _method(validator, "judge")
        self._format = _method(formatter, "format")
        self._append_many = _method(feedback_log, "append_many")
        # These answers have no bound of their own, and a message by value may have 4 MiB at most.
        self._find_event = feedback_log.options(method_name="find_event")
        self._find_generation = feedback_log.options(method_name="find_generation")
        self._events_about = feedback_log.options(method_name="events_about")
        self._ids_about = feedback_log.options(method_name="ids_about")
        self._adapters = feedback_log.options(method_name="adapters_trained_on")
        self._rollout_status = rollout.options(method_name="status")
        self._analysis = feedback_log.options(method_name="analysis")
        self._appender = Appender(self._send_rows)
        self._engine_info: EngineInfo | None = None

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenDelta, None]:
        stream = self._generate.remote(job)
        try:
            async for delta in stream:
                yield delta
        except Exception as error:
            raise _logged(ours(error, "generator"), error) from error
        finally:
            # Closing the replica's generator is what aborts the request in the engine.
            stream.cancel()

    async def judge(self, job: ValidationJob) -> Verdict:
        return await _call("validator", lambda: self._judge.remote(job))

    async def format(self, job: FormatJob) -> str:
        return await _call("formatter", lambda: self._format.remote(job))

    async def record(self, row: Mapping[str, Any]) -> LogAck:
        return await self.append(to_log_row(row, time.time_ns() // 1000, self._texts))

    async def append(self, row: Mapping[str, Any]) -> LogAck:
        """Puts one row on disk; raises what `append_many` returns."""
        (outcome,) = await self.append_many([row])
        if isinstance(outcome, RheostatError):
            raise outcome
        return outcome

    async def append_many(self, rows: Sequence[Mapping[str, Any]]) -> list[LogAck | RheostatError]:
        """Puts rows on disk; an outcome a row, in order. Rows go their way even if the caller is cancelled."""
        return await self._appender.append(rows)

    async def find_event(self, event_id: str) -> dict[str, Any] | None:
        """A row of the log by its event_id; None also when it was erased."""
        return await _call("feedback log", lambda: self._find_event.remote(event_id))

    async def find_generation(self, generation_id: str) -> dict[str, Any] | None:
        """An answer's row; None also when it was erased."""
        return await _call("feedback log", lambda: self._find_generation.remote(generation_id))

    async def events_about(self, generation_id: str) -> list[dict[str, Any]]:
        """The feedback rows that name this answer."""
        return await _call("feedback log", lambda: self._events_about.remote(generation_id))

    async def ids_about(self, generation_id: str) -> list[str]:
        """The event_ids of this answer and of all rows that name it, erased ones too while they are there."""
        return await _call("feedback log", lambda: self._ids_about.remote(generation_id))

    async def adapters_trained_on(self, event_ids: Sequence[str]) -> list[str]:
        """Adapters whose training set holds any of these rows."""
        return await _call("feedback log", lambda: self._adapters.remote(list(event_ids)))

    async def analysis(self, since_s: float | None) -> dict[str, Any]:
        """The report over the last ``since_s`` seconds; None: over everything."""
        return await _call("feedback log", lambda: self._analysis.remote(since_s))

    async def rollout_status(self) -> dict[str, Any]:
        """What the Rollout deployment counted of the canary."""
        return await _call("rollout", lambda: self._rollout_status.remote())

    async def _send_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[LogAck | RheostatError]:
        return await _call("feedback log", lambda: self._append_many.remote(list(rows)))

    async def engine_info(self) -> EngineInfo:
        """What the generator serves; asked once, since a change of model restarts the application."""
        if self._engine_info is None:
            asked: EngineInfo = await _call("generator", lambda: asyncio.wait_for(self._info.remote(), READY_TIMEOUT_S))
            self._engine_info = asked
        return self._engine_info

    async def check_ready(self) -> None:
        """Raises Unavailable unless a generator is up and its engine answers."""
        await _call("generator", lambda: asyncio.wait_for(self._load.remote(), READY_TIMEOUT_S))


def _method(handle: DeploymentHandle[Any], name: str, *, stream: bool = False) -> Any:
    """One method of a deployment, by value over gRPC: for small messages that beats the object store."""
    return handle.options(method_name=name, stream=stream, _by_reference=False)


async def _call(stage: str, start: Callable[[], Awaitable[T]]) -> T:
    try:
        return await start()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # The replica's, not ours: it was told to stop while it worked on this.
        raise Unavailable(f"The {stage} dropped this request; try again in a few seconds.", code="not_ready") from None
    except Exception as error:
        raise _logged(ours(error, stage), error) from error


def _logged(mapped: RheostatError, error: Exception) -> RheostatError:
    """``mapped``; the reason of a bug is logged here, for the caller is told none."""
    if isinstance(mapped, InternalError):
        logger.error("a stage failed", exc_info=error)
    return mapped


def ours(error: Exception, stage: str) -> RheostatError:
    """The most specific error of ours for what a handle raised."""
    if isinstance(error, RheostatError):
        # Ray raises a class of its own that also inherits ours, with a traceback in its text: rebuild the original.
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        return cause if isinstance(cause, RheostatError) else error
    if isinstance(error, ray.exceptions.RayTaskError):
        return InternalError("The service failed on this request; quote its x-request-id when you report it.")
    if isinstance(error, TimeoutError):
        return Unavailable(f"The {stage} did not answer in time; try again in a few seconds.", code="not_ready")
    if isinstance(error, BackPressureError):
        return Unavailable(f"The {stage} has no room for more requests; try again in a few seconds.")
    if isinstance(
        error,
        (
            DeploymentUnavailableError,
            ReplicaUnavailableError,
            ray.exceptions.RayActorError,
            ray.exceptions.TaskCancelledError,
        ),
    ):
        return Unavailable(f"The {stage} is not available just now; try again in a few seconds.", code="not_ready")
    if isinstance(error, RequestCancelledError):
        return Unavailable(f"The {stage} dropped this request; try again in a few seconds.")
    return InternalError("The service failed on this request; quote its x-request-id when you report it.")
