"""One replica's view of the registry: changes arrive, and whatever is damaged changes nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from adapter_support import make_base, make_card, write_adapter

from benchmarks.durability.recording import QuickFiles
from deployments.rollout import follower as module
from deployments.rollout.adapter_store import BASE
from deployments.rollout.aliases import ALIASES, Aliases
from deployments.rollout.follower import AliasFollower
from deployments.rollout.registry import Registry
from deployments.rollout.replicas import FOLDER, ReplicaState, live_replicas, write_state

PATIENCE_S = 20
"""Long, for a machine that is busy; what is waited for takes milliseconds."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.005)
    monkeypatch.setattr(module, "BEAT_S", 0.01)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def follow(root: Path) -> Iterator[Callable[..., AliasFollower]]:
    made: list[AliasFollower] = []

    def follow(role: Any = "ingress", on_change: Any = None, start: bool = True) -> AliasFollower:
        follower = AliasFollower(root, role, on_change)
        made.append(follower)
        if start:
            follower.start()
        return follower

    yield follow
    for follower in made:
        follower.stop()


def challenge(root: Path, number: int = 0) -> str:
    """Registers an adapter and makes it the challenger."""
    registry = Registry(root, QuickFiles())
    models = root.parent / f"models-{number}"
    base = make_base(models)
    folder = write_adapter(root.parent / f"runs/{number}", number)
    adapter = registry.register(folder, root.parent / "runs", make_card(base), base, 16)
    registry.set_challenger(adapter, expected_version=registry.aliases().version, now_us=1, by="tester")
    return adapter


def set_share(root: Path, share: float) -> Aliases:
    registry = Registry(root, QuickFiles())
    return registry.set_share(share, expected_version=registry.aliases().version, now_us=1, by="tester")


def until(is_so: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.002)


def told(root: Path) -> ReplicaState | None:
    states = live_replicas(root, time.time_ns() // 1000)
    return states[0] if states else None


def problem(root: Path) -> str:
    state = told(root)
    return "" if state is None else state.problems.get("aliases", "")


def test_without_a_registry_the_base_model_is_champion(follow: Callable[..., AliasFollower], root: Path) -> None:
    follower = follow(start=False)
    assert (follower.aliases, follower.refresh()) == (Aliases(), False)
    assert follower.aliases.champion == BASE
    assert not root.exists()


def test_a_registry_that_begins_later_is_found(follow: Callable[..., AliasFollower], root: Path) -> None:
    follower = follow()
    adapter = challenge(root)
    until(lambda: follower.aliases.challenger == adapter, "the change did not arrive")


def test_a_new_follower_knows_the_aliases_at_once(follow: Callable[..., AliasFollower], root: Path) -> None:
    adapter = challenge(root)
    assert follow(start=False).aliases.challenger == adapter


def test_each_change_arrives_and_is_told_as_served(follow: Callable[..., AliasFollower], root: Path) -> None:
    challenge(root)
    follower = follow()
    for share in (0.01, 0.5):
        version = set_share(root, share).version
        until(lambda version=version: (told(root) or ReplicaState("", "ingress", 0, 0)).version == version, "not told")
        assert follower.aliases.share == share


def test_a_file_that_did_not_change_is_not_read_again(
    follow: Callable[..., AliasFollower], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenge(root)
    follower = follow(start=False)
    monkeypatch.setattr(follower._registry, "aliases", lambda: pytest.fail("it was read"))
    assert not follower.refresh()


def test_who_must_load_first_counts_as_serving_only_once_it_says_so(
    follow: Callable[..., AliasFollower], root: Path
) -> None:
    arrived: list[Aliases] = []
    follower = follow("generator", arrived.append)
    adapter = challenge(root)
    until(lambda: arrived, "the change did not arrive")
    until(lambda: told(root), "the replica is not there")
    state = told(root)
    assert state is not None
    assert (arrived[0].challenger, state.version, state.role) == (adapter, 0, "generator")
    follower.report(arrived[0].version, (adapter,), {"x": "is damaged"})
    state = told(root)
    assert state is not None
    assert (state.version, state.loaded, state.problems) == (arrived[0].version, (adapter,), {"x": "is damaged"})


def test_a_damaged_aliases_file_changes_nothing_and_is_told(
    follow: Callable[..., AliasFollower], root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = challenge(root)
    follower = follow()
    kept = (root / ALIASES).read_bytes()
    (root / ALIASES).write_bytes(kept.replace(b'"share": 0.0', b'"share": 1.0'))
    until(lambda: "cannot be trusted" in problem(root), "the damage is not told")
    assert (follower.aliases.challenger, follower.aliases.share) == (adapter, 0.0)
    # Once, however often it is tried.
    assert len([record for record in caplog.records if "serving goes on as before" in record.message]) == 1
    (root / ALIASES).write_bytes(kept)
    until(lambda: told(root) and not problem(root), "the repair is not told")
    version = set_share(root, 0.25).version
    until(lambda: follower.aliases.version == version, "no change arrives any more")


def test_aliases_that_are_taken_away_change_nothing(follow: Callable[..., AliasFollower], root: Path) -> None:
    adapter = challenge(root)
    follower = follow(start=False)
    (root / ALIASES).unlink()
    assert not follower.refresh()
    assert follower.aliases.challenger == adapter


def test_what_fails_in_a_change_does_not_end_the_following(follow: Callable[..., AliasFollower], root: Path) -> None:
    arrived: list[int] = []

    def fail(aliases: Aliases) -> None:
        arrived.append(aliases.version)
        raise RuntimeError("the loop is closed")

    follow("generator", fail)
    challenge(root)
    until(lambda: arrived == [1], "the change did not arrive")
    set_share(root, 0.5)
    until(lambda: arrived == [1, 2], "the next change did not arrive")


def test_a_beat_comes_again_and_again(follow: Callable[..., AliasFollower], root: Path) -> None:
    follow()
    until(lambda: told(root), "the replica is not there")
    first = told(root)
    assert first is not None
    until(lambda: (told(root) or first).at_us > first.at_us, "no second beat came")


def test_a_disk_that_cannot_be_written_ends_nothing(
    follow: Callable[..., AliasFollower], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(root: Path, state: ReplicaState) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(module, "write_state", refuse)
    follower = follow()
    adapter = challenge(root)
    until(lambda: follower.aliases.challenger == adapter, "the change did not arrive")


def test_stopping_ends_the_thread_and_removes_the_file(follow: Callable[..., AliasFollower], root: Path) -> None:
    before = threading.active_count()
    follower = follow()
    assert threading.active_count() == before + 1
    until(lambda: told(root), "the replica is not there")
    follower.stop()
    follower.stop()
    assert threading.active_count() == before
    follower.report(9, (), {})
    assert list((root / FOLDER).iterdir()) == []


def test_what_was_reported_before_the_start_goes_too(follow: Callable[..., AliasFollower], root: Path) -> None:
    follower = follow("generator", lambda aliases: None, start=False)
    follower.report(1, (), {})
    assert told(root) is not None
    follower.stop()
    assert told(root) is None


def test_a_start_sweeps_away_who_was_killed(follow: Callable[..., AliasFollower], root: Path) -> None:
    write_state(root, ReplicaState("generator-old", "generator", 1, at_us=1))
    follow()
    assert not (root / FOLDER / "generator-old.json").exists()
