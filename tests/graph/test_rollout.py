"""Adapters over the running graph: the challenger answers who asks for it, and a promotion or rollback is done when all
replicas serve it. The engine is simulated: an adapter changes its text by its name alone."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.feedback.directory import read_log
from deployments.rollout.adapter_files import WEIGHTS, BaseModel
from deployments.rollout.adapter_store import BASE
from deployments.rollout.agreement import Agreement, wait_until_all_serve
from deployments.rollout.aliases import Aliases
from deployments.rollout.registry import Registry
from deployments.rollout.replicas import ReplicaState, live_replicas
from tests.cluster import chat, wait_until_ready
from tests.unit.rollout.adapter_support import make_base, make_card, write_adapter

CHAT = "/v1/chat/completions"
TIMEOUT_S = 120
"""For a machine that is busy: Serve starts a replica in a few seconds on one that is not."""


class Unchecked(Registry):
    """Makes an adapter the challenger whatever became of its files: as if they were damaged a moment later."""

    def verify(self, adapter: str) -> Path:
        return self.path(adapter)


class Desk:
    """What somebody who decides about adapters has at hand."""

    def __init__(self, root: Path, work: Path) -> None:
        self.root = root
        self.registry = Registry(root)
        self._work = work
        self._base: BaseModel = make_base(work / "models")

    def register(self, number: int) -> str:
        # Other content than other tests of this registry make: an adapter has one origin.
        folder = write_adapter(self._work / f"runs/{number}", 100 + number)
        return self.registry.register(folder, self._work / "runs", make_card(self._base), self._base, 16)

    def challenge(self, adapter: str, registry: Registry | None = None) -> Aliases:
        return (registry or self.registry).set_challenger(adapter, **self._decided())

    def share(self, share: float) -> Aliases:
        return self.registry.set_share(share, **self._decided())

    def promote(self, adapter: str) -> Aliases:
        return self.registry.promote(adapter, ungated=True, reason="a test without a gate", **self._decided())

    def roll_back(self) -> Aliases:
        return self.registry.roll_back(**self._decided())

    def reset(self) -> None:
        """The base model answers alone."""
        if self.registry.aliases().challenger is not None:
            self.registry.clear_challenger(**self._decided())
        if self.registry.aliases().champion != BASE:
            self.roll_back()
        self.agreed(self.registry.aliases(), BASE)

    def wait(self, aliases: Aliases, adapter: str) -> Agreement:
        return wait_until_all_serve(self.root, aliases.version, adapter, TIMEOUT_S)

    def agreed(self, aliases: Aliases, adapter: str) -> Agreement:
        agreement = self.wait(aliases, adapter)
        assert agreement.agreed, agreement.waiting
        assert agreement.replicas >= 2, "an ingress and a generator at least"
        return agreement

    def replicas(self) -> list[ReplicaState]:
        return live_replicas(self.root, time.time_ns() // 1000)

    def generators(self) -> list[ReplicaState]:
        return [state for state in self.replicas() if state.role == "generator"]

    def _decided(self) -> dict[str, Any]:
        now_us = time.time_ns() // 1000
        return {"expected_version": self.registry.aliases().version, "now_us": now_us, "by": "tester"}


@pytest.fixture
def desk(url: str, data_dir: Path, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(data_dir / "registry", tmp_path)
    made.reset()
    yield made
    made.reset()


def ask(client: httpx.Client, arm: str | None = None, **fields: Any) -> dict[str, Any]:
    response = client.post(CHAT, json=chat(**fields), headers={} if arm is None else {"x-rheostat-arm": arm})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def who(body: dict[str, Any]) -> tuple[str, str | None]:
    return body["rheostat"]["arm"], body["rheostat"]["adapter"]


def text(body: dict[str, Any]) -> str:
    return str(body["choices"][0]["message"]["content"])


def until(is_so: Callable[[], Any], what: Callable[[], Any]) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < end, what()
        time.sleep(0.05)


def test_the_challenger_answers_who_asks_for_it_and_nobody_else(
    desk: Desk, client: httpx.Client, data_dir: Path
) -> None:
    before = ask(client, seed=7)
    assert who(before) == ("champion", None)
    adapter = desk.register(0)
    desk.agreed(desk.challenge(adapter), adapter)
    challenged, champion, assigned = (ask(client, arm, seed=7) for arm in ("challenger", "champion", None))
    assert (who(challenged), who(champion), who(assigned)) == (
        ("challenger", adapter),
        ("champion", None),
        ("champion", None),
    )
    assert text(challenged) != text(champion) == text(assigned) == text(before)
    asked = challenged["rheostat"]["generation_id"]
    row = next(row for row in read_log(data_dir / "log") if row["generation_id"] == asked)
    assert (row["adapter"], row["arm"]) == (adapter, "challenger")


def test_a_share_sends_whole_persons_to_the_challenger(desk: Desk, client: httpx.Client) -> None:
    adapter = desk.register(0)
    desk.challenge(adapter)
    desk.agreed(desk.share(0.5), adapter)
    first, second = ([who(ask(client, user=f"u-{n}", content=what)) for n in range(16)] for what in ("Why?", "How?"))
    assert first == second
    assert set(first) == {("champion", None), ("challenger", adapter)}


def test_a_promotion_is_done_when_all_replicas_serve_it_and_a_rollback_too(desk: Desk, client: httpx.Client) -> None:
    before = ask(client, seed=7)
    adapter = desk.register(0)
    desk.agreed(desk.challenge(adapter), adapter)
    desk.agreed(desk.promote(adapter), adapter)
    promoted = ask(client, seed=7)
    assert (who(promoted), text(promoted) != text(before)) == (("champion", adapter), True)
    taken_back = desk.roll_back()
    agreement = desk.agreed(taken_back, taken_back.champion)
    after = ask(client, seed=7)
    assert (who(after), text(after)) == (("champion", None), text(before))
    # The previous one stays loaded, so that it can come back without a reload.
    assert all(adapter in state.loaded for state in desk.generators())
    # The target is 1 s; the machine of a test may be busy.
    assert agreement.seconds < 5


def test_no_request_fails_while_adapters_are_promoted_and_taken_back(desk: Desk, client: httpx.Client) -> None:
    adapter = desk.register(0)
    desk.agreed(desk.challenge(adapter), adapter)
    said: list[tuple[int, Any]] = []
    is_over = threading.Event()

    def keep_asking(number: int) -> None:
        while not is_over.is_set():
            response = client.post(CHAT, json=chat(f"Question {number}?", max_tokens=40))
            said.append((response.status_code, response.json()))

    threads = [threading.Thread(target=keep_asking, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            desk.agreed(desk.promote(adapter), adapter)
            taken_back = desk.roll_back()
            desk.agreed(taken_back, BASE)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert [body for status, body in said if status != 200] == []
    assert {who(body) for _, body in said} <= {("champion", None), ("champion", adapter), ("challenger", adapter)}
    assert ("champion", adapter) in {who(body) for _, body in said}


def test_a_damaged_challenger_takes_nothing_down_and_the_replica_tells_it(desk: Desk, client: httpx.Client) -> None:
    before = ask(client, seed=7)
    adapter = desk.register(1)
    weights = desk.registry.path(adapter) / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-7])
    aliases = desk.challenge(adapter, Unchecked(desk.root))
    until(
        lambda: all(
            state.version == aliases.version and (state.role == "ingress" or adapter in state.problems)
            for state in desk.replicas()
        ),
        desk.replicas,
    )
    assert all(f"The adapter {adapter} is damaged" in state.problems[adapter] for state in desk.generators())
    challenged, champion = ask(client, "challenger", seed=7), ask(client, seed=7)
    assert (who(challenged), who(champion)) == (("challenger", None), ("champion", None))
    assert text(challenged) == text(champion) == text(before)
    agreement = wait_until_all_serve(desk.root, aliases.version, adapter, 0)
    assert (agreement.agreed, len(agreement.waiting)) == (False, len(desk.generators()))
    assert all(f"The adapter {adapter} is damaged" in line for line in agreement.waiting)


def test_a_replica_that_starts_later_serves_the_current_aliases_and_survives_a_damaged_one(
    desk: Desk, client: httpx.Client, url: str
) -> None:
    champion, challenger = desk.register(0), desk.register(2)
    desk.agreed(desk.challenge(champion), champion)
    desk.agreed(desk.promote(champion), champion)
    aliases = desk.challenge(challenger)
    desk.agreed(aliases, challenger)
    weights = desk.registry.path(challenger) / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-7])
    killed = desk.generators()
    for state in killed:
        os.kill(state.pid, signal.SIGKILL)
    until(lambda: {s.id for s in desk.generators()}.isdisjoint({s.id for s in killed}), desk.generators)
    until(desk.generators, lambda: "no new replica came")
    wait_until_ready(url)
    assert who(ask(client)) == ("champion", champion)
    assert who(ask(client, "challenger")) == ("challenger", None)
    for state in desk.generators():
        assert state.loaded == (champion,)
        assert f"The adapter {challenger} is damaged" in state.problems[challenger]
