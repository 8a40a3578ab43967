"""The worker thread knows since when it has been busy; the clock is the test's."""

import asyncio
import threading

import pytest

from deployments.validator.worker import Worker

WAIT_S = 60


async def test_work_is_busy_since_it_began_or_since_its_last_beat() -> None:
    now = [100.0]
    worker = Worker("test", lambda: now[0])
    started, go_on = threading.Event(), threading.Event()

    def work(value: int) -> int:
        started.set()
        assert go_on.wait(WAIT_S)
        return value

    assert worker.busy_s() == 0.0
    running = asyncio.ensure_future(worker.run(work, 7))
    assert await asyncio.to_thread(started.wait, WAIT_S)
    now[0] = 131.0
    assert worker.busy_s() == 31.0
    worker.beat()
    now[0] = 133.0
    assert worker.busy_s() == 2.0
    go_on.set()
    assert await running == 7
    now[0] = 999.0
    assert worker.busy_s() == 0.0


async def test_work_that_raises_leaves_the_worker_idle_and_usable() -> None:
    now = [0.0]
    worker = Worker("test", lambda: now[0])
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 // 0)
    now[0] = 50.0
    assert worker.busy_s() == 0.0
    assert await worker.run(lambda: 1) == 1


async def test_work_that_was_cancelled_while_it_waited_is_not_begun() -> None:
    worker = Worker("test")
    started, go_on = threading.Event(), threading.Event()
    begun: list[int] = []

    def hold() -> None:
        started.set()
        assert go_on.wait(WAIT_S)

    running = asyncio.ensure_future(worker.run(hold))
    assert await asyncio.to_thread(started.wait, WAIT_S)
    waiting = asyncio.ensure_future(worker.run(begun.append, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    go_on.set()
    await running
    await worker.run(lambda: None)
    assert begun == []
