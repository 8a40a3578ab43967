"""A simulated engine that holds only so much: places, pace, prefill, memory."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from pydantic import ValidationError

from deployments.generator.simulated import SimulatedEngine, SimulatedSettings
from deployments.generator.simulated_capacity import SimulatedCapacity, token_interval_s
from graph.contracts import EngineLoad, GenerationJob, Message, Sampling, TokenDelta
from graph.errors import Unavailable


class Sleeps:
    """Remembers what it was asked to wait and only gives way to other tasks."""

    def __init__(self) -> None:
        self.waited_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waited_s.append(seconds)
        await asyncio.sleep(0)


async def make_engine(sleep: Sleeps | None = None, **settings: Any) -> SimulatedEngine:
    engine = SimulatedEngine(
        SimulatedSettings(first_token_s=0.5, token_s=0.25, **settings), sleep=sleep or Sleeps(), clock=None
    )
    await engine.start()
    return engine


def answer(engine: SimulatedEngine, tokens: int = 4, prompt: str = "x" * 40) -> AsyncGenerator[TokenDelta, None]:
    """Of a prompt of ten tokens."""
    job = GenerationJob("g", 0, (Message("user", prompt),), Sampling(max_tokens=tokens, ignore_eos=True))
    return engine.generate(job)


async def read(deltas: AsyncGenerator[TokenDelta, None]) -> int:
    return len([delta async for delta in deltas])


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_requests_beyond_the_places_wait_and_come_in_the_order_in_which_they_came() -> None:
    engine = await make_engine(capacity={"max_running": 2})
    async with aclosing(answer(engine)) as first, aclosing(answer(engine)) as second:
        await anext(first)
        await anext(second)
        ended: list[str] = []

        async def finish(name: str) -> None:
            await read(answer(engine))
            ended.append(name)

        waiting = []
        for name in ("third", "fourth", "fifth"):
            waiting.append(asyncio.create_task(finish(name)))
            await settle()
        assert engine.load() == EngineLoad(2, 30, 3)
        await second.aclose()
        await asyncio.gather(*waiting)
        assert ended == ["third", "fourth", "fifth"]
        assert engine.load().running_requests == 1
    assert engine.load() == EngineLoad(0, 0)


async def test_one_that_gives_up_while_it_waits_takes_no_place() -> None:
    engine = await make_engine(capacity={"max_running": 1})
    async with aclosing(answer(engine)) as first:
        await anext(first)
        patient, impatient = (asyncio.create_task(read(answer(engine))) for _ in range(2))
        await settle()
        assert engine.load().waiting_requests == 2
        patient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await patient
        assert engine.load() == EngineLoad(1, 10, 1)
    assert await impatient == 4
    assert engine.load() == EngineLoad(0, 0)


async def test_the_pace_falls_with_the_requests_that_run() -> None:
    sleep = Sleeps()
    engine = await make_engine(sleep, capacity={"max_running": 3, "slowdown": 0.5})
    async with aclosing(answer(engine)) as first, aclosing(answer(engine)) as second:
        await anext(first)
        await anext(first)
        await anext(second)
        await anext(first)
    assert sleep.waited_s == [0.5, 0.25, 0.5, 0.375]
    assert token_interval_s(0.25, SimulatedCapacity(max_running=3, slowdown=0.5), 3) == 0.5


async def test_a_prompt_is_read_before_the_first_token_except_what_is_cached() -> None:
    sleep = Sleeps()
    cache = {"block_tokens": 4, "blocks": 100}
    engine = await make_engine(sleep, capacity={"max_running": 3, "prompt_token_s": 0.1}, cache=cache)
    await read(answer(engine, tokens=2))
    assert sleep.waited_s == [pytest.approx(1.5), 0.25]
    async with aclosing(answer(engine, tokens=2)) as again:
        cached = (await anext(again)).cached_tokens
    assert cached > 0
    assert sleep.waited_s[2] == pytest.approx(1.5 - 0.1 * cached)


async def test_memory_holds_prompts_and_answers_of_running_requests() -> None:
    engine = await make_engine(capacity={"max_running": 1, "kv_tokens": 20})
    async with aclosing(answer(engine, tokens=15)) as deltas:
        used = []
        async for _ in deltas:
            used.append(engine.load().kv_usage)
    assert used[:3] == [11 / 20, 12 / 20, 13 / 20]
    assert used[-1] == 1
    assert engine.load().kv_usage == 0


async def test_it_takes_its_time_to_start() -> None:
    sleep = Sleeps()
    await make_engine(sleep, start_s=30)
    assert sleep.waited_s == [30]


async def test_shutdown_ends_those_that_wait() -> None:
    engine = await make_engine(capacity={"max_running": 1})
    running = answer(engine)
    await anext(running)
    waiting = asyncio.create_task(read(answer(engine)))
    await settle()
    engine.shutdown()
    with pytest.raises(Unavailable):
        await anext(running)
    with pytest.raises(Unavailable):
        await waiting
    assert engine.load() == EngineLoad(0, 0)


@pytest.mark.parametrize(
    "wrong", [{}, {"max_running": 0}, {"max_running": 1, "slowdown": -1}, {"max_running": 1, "slots": 2}]
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SimulatedSettings.model_validate({"capacity": wrong})
