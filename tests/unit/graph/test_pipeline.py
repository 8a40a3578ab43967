"""The pipeline carries the machine's commands out: stages, timeouts and disconnects, on a clock of its own."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_request_life import WordGuard, make_plan

from graph.contracts import FormatJob, GenerationJob, LogAck, TokenDelta, ValidationJob, Verdict
from graph.errors import RheostatError, Unavailable
from graph.lifecycle import RequestLife
from graph.moves import End, Release
from graph.pipeline import Timings, live


class VirtualClock:
    """Time that passes only when every task waits; no real second is spent."""

    def __init__(self) -> None:
        self._now = 0.0
        self._order = itertools.count()
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []

    def now(self) -> float:
        return self._now

    def _at(self, when: float, ring: Callable[[], None]) -> None:
        heapq.heappush(self._alarms, (when, next(self._order), ring))

    async def sleep(self, seconds: float) -> None:
        done = asyncio.get_running_loop().create_future()
        self._at(self._now + seconds, lambda: done.done() or done.set_result(None))
        await done

    @asynccontextmanager
    async def timeout_at(self, when: float) -> AsyncIterator[None]:
        async with asyncio.timeout(None) as limit:
            ended = False
            self._at(when, lambda: None if ended else limit.reschedule(0.0))
            try:
                yield
            finally:
                ended = True

    async def run(self, work: Any) -> Any:
        task = asyncio.ensure_future(work)
        while not task.done():
            for _ in range(20):
                await asyncio.sleep(0)
            if not task.done() and self._alarms:
                self._now, _, ring = heapq.heappop(self._alarms)
                ring()
        return task.result()


class Scripted:
    """Stages that take set times and fail where they are told to."""

    def __init__(self, clock: VirtualClock, texts: list[str], **options: Any) -> None:
        self.clock = clock
        self.texts = texts
        self.verdicts: list[Verdict] = options.get("verdicts", [Verdict("deliver")] * 2)
        self.token_s: float = options.get("token_s", 0.0)
        self.slow: dict[str, float] = options.get("slow", {})
        self.failing: dict[str, Exception] = options.get("failing", {})
        self.open = 0
        self.recorded: list[Mapping[str, Any]] = []

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenDelta, None]:
        self.open += 1
        try:
            words = self.texts[job.attempt].split(" ")
            for index, word in enumerate(words):
                await self.clock.sleep(self.token_s)
                if "generate" in self.failing and index == 2:
                    raise self.failing["generate"]
                last = index == len(words) - 1
                yield TokenDelta(word if last else word + " ", 1, 5, finish_reason="stop" if last else None)
        finally:
            self.open -= 1

    async def judge(self, job: ValidationJob) -> Verdict:
        await self._stage("judge")
        return self.verdicts.pop(0)

    async def format(self, job: FormatJob) -> str:
        await self._stage("format")
        return job.text

    async def record(self, row: Mapping[str, Any]) -> LogAck:
        await self._stage("record")
        self.recorded.append(row)
        return LogAck("e", "s", 0)

    async def _stage(self, name: str) -> None:
        await self.clock.sleep(self.slow.get(name, 0.0))
        if name in self.failing:
            raise self.failing[name]


async def outcome_of(
    texts: list[str], *, streaming: bool = False, stop_after: int | None = None, **options: Any
) -> tuple[list[Release | End], Scripted, RequestLife]:
    clock = VirtualClock()
    stages = Scripted(clock, texts, **options)
    plan = make_plan(streaming=streaming, deadline=10.0, regenerate_before=5.0, regenerate_until=9.0)
    life = RequestLife(plan, WordGuard)
    moves: list[Release | End] = []

    async def consume() -> None:
        async with aclosing(live(life, plan, stages, clock, Timings(clock.now()), judge_timeout_s=2.0)) as stream:
            async for move in stream:
                moves.append(move)
                if len(moves) == stop_after:
                    break
        # At once, and not when the garbage collector comes by.
        assert stages.open == 0

    await clock.run(consume())
    return moves, stages, life


def end_of(moves: list[Release | End]) -> End:
    assert isinstance(moves[-1], End)
    return moves[-1]


async def test_a_whole_answer_is_recorded_with_its_timings() -> None:
    moves, stages, _ = await outcome_of(["It is blue."], token_s=0.1, slow={"judge": 0.5})
    assert end_of(moves).answer.text == "It is blue."  # type: ignore[union-attr]
    timings = stages.recorded[0]["timings"]
    assert timings["generating_ms"] == pytest.approx(300)
    assert timings["judging_ms"] == pytest.approx(500)


async def test_the_deadline_closes_the_engine_and_refuses_before_the_first_byte() -> None:
    moves, stages, _ = await outcome_of(["a b c d"], token_s=4.0)
    assert end_of(moves).ending == "error"
    assert end_of(moves).error.http_status == 504  # type: ignore[union-attr]
    assert stages.open == 0


async def test_the_deadline_cuts_a_stream_that_has_begun() -> None:
    moves, stages, _ = await outcome_of(["a b c d"], token_s=4.0, streaming=True)
    assert [type(move) for move in moves] == [Release, Release, End]
    assert end_of(moves).ending == "cut"
    assert stages.open == 0


async def test_a_slow_validator_leaves_the_answer_unvalidated_inside_the_deadline() -> None:
    moves, _, _ = await outcome_of(["It is blue."], slow={"judge": 60.0})
    assert end_of(moves).answer.outcome == "unvalidated"  # type: ignore[union-attr]


async def test_a_slow_second_attempt_leaves_the_first_answer() -> None:
    bad = Verdict("regenerate", (), {}, 0.5)
    moves, stages, _ = await outcome_of(["bad", "very slow indeed"], token_s=4.0, verdicts=[bad])
    answer = end_of(moves).answer
    assert answer is not None
    assert (answer.text, answer.outcome) == ("bad", "degraded")
    assert stages.open == 0


async def test_a_consumer_that_goes_away_closes_the_engine_and_ends_in_silence() -> None:
    moves, stages, life = await outcome_of(["a b c d"], streaming=True, stop_after=1)
    assert len(moves) == 1
    assert life.ending == "silent"
    assert stages.open == 0
    assert stages.recorded == []


async def test_a_foreign_error_becomes_a_fixed_text() -> None:
    moves, _, _ = await outcome_of(["x"], failing={"format": ValueError("inside")})
    error = end_of(moves).error
    assert isinstance(error, RheostatError)
    assert error.http_status == 500
    assert "inside" not in error.message


@given(
    streaming=st.booleans(),
    token_s=st.sampled_from([0.0, 0.5, 3.0]),
    slow=st.dictionaries(st.sampled_from(["judge", "format", "record"]), st.sampled_from([0.5, 3.0, 20.0])),
    failing=st.sets(st.sampled_from(["generate", "judge", "format", "record"])),
    actions=st.lists(st.sampled_from(["deliver", "regenerate", "fallback", "block"]), min_size=2, max_size=2),
    stop_after=st.sampled_from([None, 1, 2]),
)
def test_whatever_the_stages_do_there_is_one_ending_and_nothing_left_running(
    streaming: bool,
    token_s: float,
    slow: dict[str, float],
    failing: set[str],
    actions: list[Any],
    stop_after: int | None,
) -> None:
    moves, stages, life = asyncio.run(
        outcome_of(
            ["one two three four", "five six"],
            streaming=streaming,
            stop_after=stop_after,
            token_s=token_s,
            slow=slow,
            failing={name: Unavailable(name) for name in failing},
            verdicts=[Verdict(action) for action in actions],
        )
    )
    ends = [move for move in moves if isinstance(move, End)]
    assert stages.open == 0
    assert life.ending in ("whole", "error", "cut", "silent")
    assert len(ends) == (0 if life.ending == "silent" else 1)
    if life.ending == "whole":
        assert len(stages.recorded) == 1
    if life.ending == "error":
        assert not any(isinstance(move, Release) for move in moves)
