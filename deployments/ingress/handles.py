"""The pipeline's stages over Ray Serve handles; the one place where Ray's errors become ours."""

import asyncio
import contextvars
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import ray.exceptions
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from ray.serve.handle import DeploymentHandle

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
    ) -> None:
        self._generate = _method(generator, "generate", stream=True)
        self._info = _method(generator, "info")
        self._load = _method(generator, "load")
        self._judge = _method(validator, "judge")
        self._format = _method(formatter, "format")
        self._append = _method(feedback_log, "append")
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
        return await self.append(to_log_row(row, time.time_ns() // 1000))

    async def append(self, row: dict[str, Any]) -> LogAck:
        """Puts a row of the log on disk, in a context of its own: a client that goes away must not take it along."""
        call = _call("feedback log", lambda: self._append.remote(row))
        return await asyncio.shield(asyncio.create_task(call, context=contextvars.Context()))

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
