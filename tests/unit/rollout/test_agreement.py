"""Whether all replicas serve what the aliases say, and who is missing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.rollout.adapter_store import BASE
from deployments.rollout.agreement import Agreement, serving, wait_until_all_serve
from deployments.rollout.replicas import RUNNING_LIVE_S, ReplicaState, remove_state, write_state

NOW_US = 1_800_000_000_000_000
ADAPTER, OTHER = "a" * 64, "b" * 64


def say(root: Path, replica_id: str, version: int = 5, **fields: Any) -> None:
    role = replica_id.split("-")[0]
    loaded = (ADAPTER,) if role == "generator" else ()
    write_state(
        root,
        ReplicaState(
            **{"id": replica_id, "role": role, "version": version, "at_us": NOW_US, "loaded": loaded} | fields
        ),
    )


def seen(root: Path, version: int = 5, adapter: str = ADAPTER) -> Agreement:
    return serving(root, version, adapter, NOW_US)


class Time:
    """A clock that only sleeping moves; ``at`` says what happens after so many sleeps."""

    def __init__(self, at: dict[int, Callable[[], None]] | None = None) -> None:
        self.now_s = 100.0
        self.sleeps = 0
        self._at = at or {}

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.sleeps += 1
        self._at.get(self.sleeps, lambda: None)()

    def now_us(self) -> int:
        return NOW_US


def wait(root: Path, time: Time, timeout_s: float = 1.0, adapter: str = ADAPTER) -> Agreement:
    return wait_until_all_serve(root, 5, adapter, timeout_s, time.clock, time.sleep, time.now_us)


def test_where_no_replica_runs_all_agree(tmp_path: Path) -> None:
    assert seen(tmp_path) == Agreement(True, 0, ())


def test_all_agree_when_each_is_at_the_version_or_later_and_generators_have_the_adapter(tmp_path: Path) -> None:
    say(tmp_path, "generator-1")
    say(tmp_path, "generator-2", version=6, loaded=(OTHER, ADAPTER))
    say(tmp_path, "ingress-1")
    assert seen(tmp_path) == Agreement(True, 3, ())


def test_the_base_model_needs_no_loading(tmp_path: Path) -> None:
    say(tmp_path, "generator-1", loaded=())
    assert seen(tmp_path, adapter=BASE).agreed
    assert not seen(tmp_path).agreed


def test_each_that_waits_is_told_by_name_with_the_reason(tmp_path: Path) -> None:
    say(tmp_path, "generator-1", version=4)
    say(tmp_path, "generator-2", loaded=(OTHER,))
    say(tmp_path, "generator-3", loaded=(), problems={ADAPTER: f"The adapter {ADAPTER} is damaged"})
    say(tmp_path, "generator-4", problems={OTHER: "not the one that is asked for"})
    say(tmp_path, "generator-5", problems={"aliases": "The aliases cannot be trusted"})
    say(tmp_path, "ingress-1", version=3)
    assert seen(tmp_path) == Agreement(
        False,
        6,
        (
            "generator generator-1: still at version 4",
            f"generator generator-2: has not loaded {ADAPTER[:12]} yet",
            f"generator generator-3: The adapter {ADAPTER} is damaged",
            "generator generator-5: The aliases cannot be trusted",
            "ingress ingress-1: still at version 3",
        ),
    )


def test_who_cannot_read_the_aliases_does_not_agree_whatever_its_version(tmp_path: Path) -> None:
    say(tmp_path, "ingress-1", version=9, problems={"aliases": "The aliases cannot be trusted"})
    assert seen(tmp_path, adapter=BASE).waiting == ("ingress ingress-1: The aliases cannot be trusted",)


def test_nobody_waits_for_a_replica_that_was_killed(tmp_path: Path) -> None:
    say(tmp_path, "generator-1", version=4, at_us=NOW_US - round(RUNNING_LIVE_S * 2e6))
    assert seen(tmp_path) == Agreement(True, 0, ())


def test_when_all_agree_there_is_no_waiting(tmp_path: Path) -> None:
    say(tmp_path, "generator-1")
    time = Time()
    assert wait(tmp_path, time) == Agreement(True, 1, (), 0.0)
    assert time.sleeps == 0


def test_it_waits_until_the_last_one_agrees_and_tells_for_how_long(tmp_path: Path) -> None:
    say(tmp_path, "generator-1", version=4)
    say(tmp_path, "ingress-1", version=4)
    time = Time({3: lambda: say(tmp_path, "generator-1"), 7: lambda: say(tmp_path, "ingress-1")})
    agreement = wait(tmp_path, time)
    assert (agreement.agreed, agreement.replicas, time.sleeps) == (True, 2, 7)
    assert agreement.seconds == pytest.approx(time.now_s - 100.0)


def test_it_does_not_wait_for_a_replica_that_ends_meanwhile(tmp_path: Path) -> None:
    say(tmp_path, "generator-1", version=4)
    time = Time({2: lambda: remove_state(tmp_path, "generator-1")})
    assert (wait(tmp_path, time).replicas, time.sleeps) == (0, 2)


def test_it_waits_for_a_replica_that_begins_meanwhile(tmp_path: Path) -> None:
    say(tmp_path, "generator-1", version=4)

    def begin() -> None:
        say(tmp_path, "generator-1")
        say(tmp_path, "generator-2", loaded=())

    agreement = wait(tmp_path, Time({1: begin}))
    assert agreement.waiting == (f"generator generator-2: has not loaded {ADAPTER[:12]} yet",)


def test_after_the_timeout_it_says_who_is_missing(tmp_path: Path) -> None:
    say(tmp_path, "generator-1", version=4)
    say(tmp_path, "ingress-1")
    time = Time()
    agreement = wait(tmp_path, time, timeout_s=0.5)
    assert (agreement.agreed, agreement.waiting) == (False, ("generator generator-1: still at version 4",))
    assert 0.5 <= agreement.seconds < 0.6
    assert agreement.seconds == pytest.approx(time.now_s - 100.0)


def test_without_a_timeout_it_looks_once(tmp_path: Path) -> None:
    say(tmp_path, "generator-1", version=4)
    time = Time()
    assert not wait(tmp_path, time, timeout_s=0).agreed
    assert time.sleeps == 0
