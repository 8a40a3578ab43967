"""Carries out one request's life over injected stages and clock: the asyncio shell of ``graph/lifecycle.py``.

It awaits one stage at a time, turns what comes back into an event, and yields what leaves for the client. The
caller (the ingress) turns the yields into HTTP. Closing the iterator means that the client is gone.
"""

import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from graph.contracts import FormatJob, GenerationJob, LogAck, TokenDelta, ValidationJob, Verdict
from graph.errors import Unavailable, as_rheostat_error
from graph.lifecycle import Phase, RequestLife
from graph.moves import (
    Abort,
    ClientGone,
    Command,
    DeadlinePassed,
    Delta,
    End,
    Event,
    Format,
    Formatted,
    Generate,
    Judge,
    Judged,
    Plan,
    Record,
    Recorded,
    Release,
    StageFailed,
)

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Stages(Protocol):
    """The deployments as a request sees them. Any may raise; foreign errors were mapped to ours by the handle."""

    def generate(self, job: GenerationJob) -> AsyncGenerator[TokenDelta, None]:
        """An async generator; closing it aborts the request in the engine."""
        ...

    async def judge(self, job: ValidationJob) -> Verdict: ...
    async def format(self, job: FormatJob) -> str: ...
    async def record(self, row: Mapping[str, Any]) -> LogAck: ...


class Clock(Protocol):
    """Time for a request. ``timeout_at`` raises TimeoutError inside its block at that time."""

    def now(self) -> float: ...
    def timeout_at(self, when: float) -> AbstractAsyncContextManager[Any]: ...


@dataclass(slots=True)
class Timings:
    """Seconds on the clock at which each phase was left; written by the pipeline, read for metrics and the log."""

    started: float
    first_release: float | None = None
    marks: dict[str, float] = field(default_factory=dict)

    def mark(self, phase: Phase, now: float) -> None:
        """Adds the time since the last mark to the phase that just ended."""
        spent = sum(self.marks.values())
        self.marks[phase.value] = self.marks.get(phase.value, 0.0) + (now - self.started - spent)

    def to_json(self) -> dict[str, float]:
        """Milliseconds by phase, and until the first release."""
        shown = {f"{name}_ms": round(value * 1e3, 3) for name, value in self.marks.items()}
        if self.first_release is not None:
            shown["first_release_ms"] = round((self.first_release - self.started) * 1e3, 3)
        return shown


async def live(
    life: RequestLife, plan: Plan, stages: Stages, clock: Clock, timings: Timings, judge_timeout_s: float = 10.0
) -> AsyncGenerator[Release | End, None]:
    """Runs ``life`` to its ending; yields each Release as it happens and the End last.

    Args:
        life: A fresh machine for ``plan``.
        judge_timeout_s: After this the answer counts as unvalidated; the deadline may come first.

    The End is not yielded when the consumer closes the iterator: then the ending is "silent".
    """
    commands: deque[Command] = deque(life.start())
    attempt: AsyncGenerator[TokenDelta, None] | None = None
    until = plan.deadline
    try:
        while True:
            event: Event | None = None
            phase = life.phase
            while commands:
                match commands.popleft():
                    case Generate(job, until):
                        await close_attempt(attempt)
                        attempt = stages.generate(job)
                    case Abort():
                        await close_attempt(attempt)
                    case Release() as release:
                        if timings.first_release is None:
                            timings.first_release = clock.now()
                        yield release
                    case Judge(job):
                        # Time is kept for delivering: without a verdict the answer leaves as unvalidated.
                        limit = min(plan.regenerate_until, clock.now() + judge_timeout_s)
                        event = await _outcome(stages.judge(job), Judged, limit, clock)
                        event = StageFailed(late_verdict()) if isinstance(event, DeadlinePassed) else event
                    case Format(format_job):
                        event = await _outcome(stages.format(format_job), Formatted, plan.deadline, clock)
                    case Record(row):
                        row = {**row, "timings": timings.to_json()}
                        event = await _outcome(stages.record(row), lambda _: Recorded(), plan.deadline, clock)
                    case End() as end:
                        yield end
                        return
            if event is None:
                assert attempt is not None
                event = await _next_delta(attempt, until, clock)
            commands.extend(life.step(event, clock.now()))
            if life.phase is not phase:
                timings.mark(phase, clock.now())
    finally:
        # Reached by closing or cancelling too: whatever still runs for this request must stop.
        life.step(ClientGone(), clock.now())
        await close_attempt(attempt)


async def _next_delta(attempt: AsyncGenerator[TokenDelta, None], until: float, clock: Clock) -> Event:
    try:
        async with clock.timeout_at(until):
            return Delta(await anext(attempt))
    except TimeoutError:
        return DeadlinePassed()
    except StopAsyncIteration:
        return StageFailed(as_rheostat_error(RuntimeError("the engine ended without a finish reason")))
    except Exception as error:  # noqa: BLE001 - the one boundary where a stage's error becomes an event
        return _failed(error)


async def _outcome(work: Awaitable[T], to_event: Callable[[T], Event], limit: float, clock: Clock) -> Event:
    try:
        async with clock.timeout_at(limit):
            return to_event(await work)
    except TimeoutError:
        return DeadlinePassed()
    except Exception as error:  # noqa: BLE001 - as above
        return _failed(error)


def _failed(error: Exception) -> StageFailed:
    ours = as_rheostat_error(error)
    if ours is not error:
        logger.exception("stage failed: %s", type(error).__name__, exc_info=error)
    return StageFailed(ours)


def late_verdict() -> Unavailable:
    """What becomes of a verdict that does not come in time."""
    return Unavailable("The validator pool did not answer in time.", code="late_verdict")


async def close_attempt(attempt: AsyncGenerator[TokenDelta, None] | None) -> None:
    """Closes an attempt; one that fails while it is closed has nothing left to tell."""
    if attempt is None:
        return
    try:
        await attempt.aclose()
    except Exception:
        logger.exception("closing an attempt failed")
