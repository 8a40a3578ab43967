"""Waiting for a place: the asyncio shell, and what callers of the service see of it."""

import asyncio
import hashlib
import json
import pickle
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import Service, running

from deployments.feedback.directory import read_log
from deployments.ingress.admission import Admission
from deployments.ingress.auth import KeyRing
from deployments.ingress.envelopes import error_headers
from deployments.ingress.places import Ticket
from deployments.ingress.priority import Priority
from deployments.ingress.telemetry import AdmissionFacts, RequestFacts
from graph.errors import Overloaded, Unavailable
from graph.settings import IngressTunables
from tests.cluster import chat

CHAT = "/v1/chat/completions"
VALIDATE = "/v1/validate"
KEYS = KeyRing(
    {hashlib.sha256(f"rk-{name}".encode()).hexdigest(): "acme" for name in ("person", "program", "night")},
    priorities_by_digest={
        hashlib.sha256(b"rk-person").hexdigest(): "interactive",
        hashlib.sha256(b"rk-night").hexdigest(): "batch",
    },
)


class HandClock:
    """Time that is moved by hand."""

    def __init__(self) -> None:
        self._now = 0.0
        self._alarms: list[tuple[float, asyncio.Timeout]] = []

    def now(self) -> float:
        return self._now

    @asynccontextmanager
    async def timeout_at(self, when: float) -> AsyncIterator[None]:
        async with asyncio.timeout(None) as limit:
            alarm = (when, limit)
            self._alarms.append(alarm)
            try:
                yield
            finally:
                self._alarms.remove(alarm)

    async def move(self, seconds: float) -> None:
        self._now += seconds
        for when, limit in self._alarms:
            if when <= self._now:
                limit.reschedule(0.0)
        await settle()


class Counted:
    """Telemetry that keeps what it is told of admission."""

    def __init__(self) -> None:
        self.decisions: list[AdmissionFacts] = []
        self.waiting_choices = 0

    def observe(self, facts: RequestFacts) -> None:
        raise AssertionError("nothing was answered")

    def validated(self, outcome: str) -> None:
        raise AssertionError("nothing was judged")

    def decided(self, facts: AdmissionFacts) -> None:
        self.decisions.append(facts)

    def waiting(self, choices: int) -> None:
        self.waiting_choices = choices


class Rig:
    """Admission with a place or two; who is in stays until it is told to go."""

    def __init__(self, **tunables: Any) -> None:
        self.tunables = IngressTunables(**{"max_inflight_choices": 1, **tunables})
        self.clock = HandClock()
        self.counted = Counted()
        self.admission = Admission(lambda: self.tunables, self.clock, self.counted)
        self.inside: list[str] = []

    def come(
        self, name: str, count: int = 1, within_s: float = 300.0, priority: Priority = "standard"
    ) -> "asyncio.Task[None]":
        return asyncio.create_task(self._visit(name, count, within_s, priority), name=name)

    async def _visit(self, name: str, count: int, within_s: float, priority: Priority) -> None:
        now = self.clock.now()
        async with self.admission.admit(Ticket(name, priority, count, now, now + within_s)):
            self.inside.append(name)
            try:
                await asyncio.Event().wait()
            finally:
                self.inside.remove(name)

    def outcomes(self) -> list[str]:
        return [facts.outcome for facts in self.counted.decisions]


async def settle() -> None:
    """Lets every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def result_of(task: "asyncio.Task[httpx.Response]") -> httpx.Response:
    """Of one that has nothing left to wait for."""
    for _ in range(2000):
        if task.done():
            return task.result()
        await asyncio.sleep(0)
    raise AssertionError("it still waits for something")


async def end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await settle()


async def test_who_waits_gets_the_place_of_who_goes() -> None:
    rig = Rig()
    first, second = rig.come("first"), rig.come("second")
    await settle()
    assert (rig.inside, rig.counted.waiting_choices) == (["first"], 1)
    await rig.clock.move(2.0)
    await end(first)
    assert (rig.inside, rig.counted.waiting_choices) == (["second"], 0)
    assert [facts.waited_s for facts in rig.counted.decisions] == [0.0, 2.0]
    await end(second)


async def test_who_waited_as_long_as_it_may_is_refused_and_told_for_how_long() -> None:
    rig = Rig(max_wait_s=5.0)
    first, second = rig.come("first"), rig.come("second")
    await settle()
    await rig.clock.move(4.9)
    assert not second.done()
    await rig.clock.move(0.2)
    with pytest.raises(Overloaded, match=r"no place became free within 5\.1 s"):
        await second
    assert (rig.outcomes(), rig.counted.waiting_choices) == (["admitted", "waited_too_long"], 0)
    await end(first)


async def test_nobody_waits_beyond_its_own_deadline() -> None:
    rig = Rig(max_wait_s=5.0)
    first, second = rig.come("first"), rig.come("second", within_s=1.0)
    await settle()
    await rig.clock.move(1.1)
    with pytest.raises(Overloaded):
        await second
    await end(first)


async def test_who_goes_away_while_it_waits_leaves_nothing_behind() -> None:
    rig = Rig()
    tasks = [rig.come(name) for name in ("first", "second", "third")]
    await settle()
    await end(tasks[1])
    assert rig.counted.waiting_choices == 1
    await end(tasks[0])
    assert rig.inside == ["third"]
    await end(tasks[2])
    assert rig.outcomes() == ["admitted", "client_gone", "admitted"]
    assert not rig.admission._wakers


async def test_a_place_that_comes_to_one_who_is_just_going_away_goes_to_the_next() -> None:
    rig = Rig()
    tasks = [rig.come(name) for name in ("first", "second", "third")]
    await settle()
    tasks[0].cancel()
    tasks[1].cancel()
    await settle()
    assert rig.inside == ["third"]
    await end(tasks[2])


async def test_a_place_that_comes_in_the_moment_the_time_is_up_is_taken() -> None:
    rig = Rig(max_wait_s=5.0)
    first, second = rig.come("first"), rig.come("second")
    await settle()
    first.cancel()
    await rig.clock.move(5.0)
    assert rig.inside == ["second"]
    await end(second)


async def test_who_is_displaced_is_told_at_once() -> None:
    rig = Rig(max_waiting_choices=1)
    first, batch = rig.come("first"), rig.come("night", priority="batch")
    await settle()
    person = rig.come("person", priority="interactive")
    with pytest.raises(Overloaded, match="requests came that go first"):
        await batch
    await end(first)
    assert rig.inside == ["person"]
    await end(person)


async def test_an_error_inside_gives_the_place_back() -> None:
    rig = Rig()
    for _ in range(3):
        with pytest.raises(RuntimeError, match="inside"):
            async with rig.admission.admit(Ticket("a", "standard", 1, 0.0, 300.0)):
                raise RuntimeError("inside")


def test_a_refused_client_comes_back_when_there_should_be_room_but_not_all_at_once() -> None:
    rng = random.Random(1)

    def told(room_in_s: float | None) -> list[float]:
        error = Overloaded("busy", retry_after_s=room_in_s)
        headers = [error_headers(error, rng) for _ in range(2000)]
        whole_s = [int(each["Retry-After"]) for each in headers]
        exact_s = [int(each["retry-after-ms"]) / 1e3 for each in headers]
        assert all(abs(whole - exact) < 1 for whole, exact in zip(whole_s, exact_s, strict=True))
        assert {*whole_s} <= {1, 2, 3, 4, 5}
        assert sum(whole_s) == pytest.approx(sum(exact_s), rel=0.05)
        return exact_s

    for room_in_s, latest_s in ((0.0, 1.5), (0.4, 1.5), (3.0, 3.0), (60.0, 5.0), (None, 5.0)):
        exact_s = told(room_in_s)
        assert min(exact_s) == pytest.approx(1.0, abs=0.05)
        assert max(exact_s) == pytest.approx(latest_s, abs=0.05)
    assert "retry-after-ms" in error_headers(Unavailable("no engine"), rng)


def test_the_hint_crosses_a_handle() -> None:
    assert pickle.loads(pickle.dumps(Overloaded("busy", retry_after_s=2.5))).retry_after_s == 2.5


# Over HTTP


HANGING = {"first_token_s": 0, "token_s": 0, "script": {"wait": {"text": "One two three.", "hang_after_tokens": 1}}}


def key(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer rk-{name}"}


@asynccontextmanager
async def queueing(folder: Path, clock: HandClock) -> AsyncIterator[tuple[httpx.AsyncClient, Service, HandClock]]:
    """The service with one place."""
    async with running(folder, simulated=HANGING, keys=KEYS, tunables={"max_inflight_choices": 1}, clock=clock) as (
        client,
        service,
    ):
        yield client, service, clock


async def hang(client: httpx.AsyncClient, service: Service) -> "asyncio.Task[httpx.Response]":
    """Takes a place and keeps it."""
    task = asyncio.create_task(client.post(CHAT, json=chat("wait"), headers=key("program")))
    while service.engine.load().running_requests < 1:
        await asyncio.sleep(0)
    return task


async def waits(service: Service, choices: int) -> None:
    async with asyncio.timeout(60):
        while service.waiting_choices != choices:
            await asyncio.sleep(0)


async def test_requests_are_answered_in_the_order_of_their_keys(tmp_path: Path) -> None:
    async with queueing(tmp_path, HandClock()) as (client, service, _):
        hanging = await hang(client, service)
        order: list[str] = []

        async def ask(name: str, stream: bool) -> int:
            response = await client.post(CHAT, json=chat(stream=stream), headers=key(name))
            order.append(name)
            return response.status_code

        asking = []
        for number, name in enumerate(("night", "program", "person")):
            asking.append(asyncio.create_task(ask(name, stream=number % 2 == 0)))
            await waits(service, number + 1)
        hanging.cancel()
        assert await asyncio.gather(*asking) == [200] * 3
    assert order == ["person", "program", "night"]
    assert [facts.priority for facts in service.decisions[1:]] == ["interactive", "standard", "batch"]


async def test_waiting_uses_up_the_time_of_the_request(tmp_path: Path) -> None:
    async with queueing(tmp_path, HandClock()) as (client, service, clock):
        hanging = await hang(client, service)
        headers = {**key("program"), "x-request-timeout-seconds": "4"}
        asking = asyncio.create_task(client.post(CHAT, json=chat("wait"), headers=headers))
        await waits(service, 1)
        await clock.move(3.0)
        hanging.cancel()
        await waits(service, 0)
        await clock.move(0.7)
        assert not asking.done()
        await clock.move(0.1)
        response = await result_of(asking)
    # 3.75 s after it came: the service answers a little before the client gives up.
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")


async def test_the_log_and_the_metrics_tell_how_long_was_waited(tmp_path: Path) -> None:
    async with queueing(tmp_path, HandClock()) as (client, service, clock):
        hanging = await hang(client, service)
        asking = asyncio.create_task(client.post(CHAT, json=chat(), headers=key("person")))
        await waits(service, 1)
        await clock.move(2.0)
        hanging.cancel()
        body = (await asking).json()
        (row,) = [row for row in read_log(tmp_path) if row["generation_id"] == body["rheostat"]["generation_id"]]
    assert json.loads(row["timings"])["waiting_ms"] == 2000
    assert service.decisions[-1] == AdmissionFacts("interactive", "admitted", 2.0)
    assert service.observed[-1].phases_s["waiting"] == service.observed[-1].total_s == 2.0


async def test_a_client_that_goes_away_while_it_waits_is_forgotten(tmp_path: Path) -> None:
    async with queueing(tmp_path, HandClock()) as (client, service, _):
        hanging = await hang(client, service)
        for stream in (False, True):
            asking = asyncio.create_task(client.post(CHAT, json=chat(stream=stream), headers=key("program")))
            await waits(service, 1)
            asking.cancel()
            await waits(service, 0)
        hanging.cancel()
        assert (await client.post(CHAT, json=chat(), headers=key("program"))).status_code == 200
    assert [facts.outcome for facts in service.decisions] == ["admitted", "client_gone", "client_gone", "admitted"]


async def test_texts_to_judge_wait_too_and_the_pool_has_its_whole_time_afterwards(tmp_path: Path) -> None:
    async with queueing(tmp_path, HandClock()) as (client, service, clock):
        hanging = await hang(client, service)
        service.judge_delay_s = 3600
        asking = asyncio.create_task(client.post(VALIDATE, json={"text": "So it is."}, headers=key("person")))
        await waits(service, 1)
        await clock.move(4.0)
        hanging.cancel()
        while not service.judging:
            await asyncio.sleep(0)
        await clock.move(9.9)
        await settle()
        assert not asking.done()
        await clock.move(0.2)
        assert (await result_of(asking)).json()["error"]["code"] == "late_verdict"
    assert service.decisions[-1] == AdmissionFacts("interactive", "admitted", 4.0)


@pytest.mark.parametrize(
    ("body", "param"),
    [({"n": 3}, "n"), ({"quality": {"best_of": 3}}, "quality.best_of"), ({"n": 2, "quality": {"best_of": 2}}, "n")],
)
async def test_what_can_never_be_served_is_told_so(body: dict[str, Any], param: str, tmp_path: Path) -> None:
    async with running(tmp_path, tunables={"max_inflight_choices": 2}) as (client, service):
        response = await client.post(CHAT, json=chat(**body))
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert service.decisions == []
