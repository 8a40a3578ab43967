"""The pipeline's stages over Ray Serve handles; the one place where Ray's errors become ours."""

import asyncio
import logging
import secrets
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

from deployments.formatter.renderers import is_cheap, render
from deployments.ingress.appender import Appender
from deployments.ingress.coalescing import Coalescing
from deployments.ingress.delta_receiver import DeltaReceiver
from deployments.ingress.privacy import TextPolicy
from deployments.ingress.records import to_log_row
from graph.contracts import (
    DeltaAddress,
    EngineInfo,
    FormatJob,
    Generated,
    GenerationJob,
    LogAck,
    TokenDelta,
    ValidationJob,
    Verdict,
)
from graph.delta_frames import decode_deltas
from graph.delta_sockets import PullSocket
from graph.errors import InternalError, RheostatError, Unavailable

logger = logging.getLogger(__name__)
T = TypeVar("T")
READY_TIMEOUT_S = 5.0
"""A generator that says nothing for this long is not ready."""


class HandleStages:
    """See ``graph.pipeline.Stages``. Handle variants are made once: the first call of each builds a router.

    Args:
        socket: Where generators push streamed answers ahead to.
        texts: What of the texts of answers is logged.
    """

    def __init__(
        self,
        generator: DeploymentHandle[Any],
        validator: DeploymentHandle[Any],
        formatter: DeploymentHandle[Any],
        feedback_log: DeploymentHandle[Any],
        rollout: DeploymentHandle[Any],
        socket: PullSocket,
        texts: TextPolicy = "keep",
    ) -> None:
        self._texts: TextPolicy = texts
        self._socket = socket
        self._deltas = DeltaReceiver(
            socket.endpoint, secrets.token_bytes(16), Coalescing(time.monotonic, time.process_time).hold_s
        )
        self._generate = _method(generator, "generate")
        # Twenty logprobs a token are more than a message by value may have.
        self._generate_long = generator.options(method_name="generate")
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
        """The deltas of a whole answer at its end; those of a stream as they come, what piled up as one."""
        if job.whole:
            for delta in decode_deltas((await self._call_generator(job, None)).deltas):
                yield delta
            return
        self._socket.start(asyncio.get_running_loop(), self._deltas.take)
        with self._deltas.opened() as box:
            call = asyncio.ensure_future(self._call_generator(job, box.address))
            call.add_done_callback(lambda done: box.end(_end_of(done)))
            try:
                while (joined := await box.next()) is not None:
                    yield joined
            finally:
                call.cancel()

    async def _call_generator(self, job: GenerationJob, address: DeltaAddress | None) -> Generated:
        call = self._generate if job.sampling.top_logprobs is None else self._generate_long
        response = call.remote(job, address)
        try:
            generated: Generated = await _call("generator", lambda: response)
            return generated
        finally:
            # Cancelling the replica's call is what aborts the request in the engine.
            response.cancel()

    async def judge(self, job: ValidationJob) -> Verdict:
        return await _call("validator", lambda: self._judge.remote(job))

    async def format(self, job: FormatJob) -> str:
        if is_cheap(job):
            return render(job)
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


def _method(handle: DeploymentHandle[Any], name: str) -> Any:
    """One method of a deployment, by value over gRPC: for small messages that beats the object store. What is sent is
    plain data of this project, so pickle does; what comes back may be an error of anyone's, which only cloudpickle
    always takes."""
    return handle.options(method_name=name, _by_reference=False, request_serialization="pickle")


def _end_of(call: "asyncio.Future[Generated]") -> Generated | BaseException:
    if call.cancelled():
        # By whoever read the answer: nobody reads on.
        return asyncio.CancelledError()
    return call.exception() or call.result()


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
