"""What replicas say of themselves, and which of them are still there."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from deployments.rollout import replicas
from deployments.rollout.replicas import (
    FOLDER,
    LIVE_S,
    RUNNING_LIVE_S,
    ReplicaState,
    live_replicas,
    remove_state,
    sweep,
    this_host,
    write_state,
)

NOW_US = 1_800_000_000_000_000


def say(root: Path, replica_id: str = "generator-1", **fields: Any) -> ReplicaState:
    state = ReplicaState(**{"id": replica_id, "role": "generator", "version": 3, "at_us": NOW_US, **fields})
    write_state(root, state)
    return state


def ids(root: Path, now_us: int = NOW_US) -> list[str]:
    return [state.id for state in live_replicas(root, now_us)]


def files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / FOLDER).iterdir())


@pytest.fixture
def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_is_written_comes_back_as_it_was(tmp_path: Path) -> None:
    state = say(tmp_path, loaded=("a" * 64,), problems={"b" * 64: "is damaged"})
    assert live_replicas(tmp_path, NOW_US) == [state]
    assert (state.pid, state.host) == (os.getpid(), this_host())


def test_a_folder_that_does_not_exist_has_no_replicas(tmp_path: Path) -> None:
    assert live_replicas(tmp_path / "none", NOW_US) == []
    sweep(tmp_path / "none", NOW_US)
    remove_state(tmp_path / "none", "generator-1")
    assert not (tmp_path / "none").exists()


def test_replicas_come_by_role_and_id(tmp_path: Path) -> None:
    for replica_id, role in (("ingress-1", "ingress"), ("generator-2", "generator"), ("generator-1", "generator")):
        say(tmp_path, replica_id, role=role)
    assert ids(tmp_path) == ["generator-1", "generator-2", "ingress-1"]


def test_writing_anew_replaces_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    say(tmp_path, version=3)
    say(tmp_path, version=4)
    assert [state.version for state in live_replicas(tmp_path, NOW_US)] == [4]
    assert files(tmp_path) == ["generator-1.json"]


def test_a_replica_whose_process_is_gone_is_passed_over_at_once(tmp_path: Path, ended_pid: int) -> None:
    say(tmp_path, "killed", pid=ended_pid)
    say(tmp_path, "alive")
    assert ids(tmp_path) == ["alive"]


def test_a_process_of_another_user_counts_as_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(replicas.os, "kill", refuse)
    say(tmp_path)
    assert ids(tmp_path) == ["generator-1"]


def test_a_replica_that_runs_here_and_is_only_late_is_not_taken_for_dead(tmp_path: Path) -> None:
    say(tmp_path)
    assert ids(tmp_path, NOW_US + round(3 * LIVE_S * 1e6)) == ["generator-1"]


def test_a_replica_that_has_not_been_heard_of_for_long_is_passed_over(tmp_path: Path) -> None:
    say(tmp_path)
    assert ids(tmp_path, NOW_US + round(RUNNING_LIVE_S * 1e6)) == ["generator-1"]
    assert ids(tmp_path, NOW_US + round(RUNNING_LIVE_S * 1e6) + 1) == []


@pytest.mark.parametrize("host", ["another-machine", f"{this_host()} pid:[1]"], ids=["machine", "container"])
def test_elsewhere_a_process_id_says_nothing_and_the_time_decides(tmp_path: Path, host: str, ended_pid: int) -> None:
    say(tmp_path, host=host, pid=ended_pid)
    assert ids(tmp_path) == ["generator-1"]
    assert ids(tmp_path, NOW_US + round(LIVE_S * 1e6) + 1) == []


def damaged(**changes: Any) -> str:
    state = ReplicaState("bad", "generator", 3, NOW_US)
    return json.dumps({**asdict(state), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"id"',
        "{}",
        damaged()[:-9],
        damaged(id="another"),
        damaged(at_us="yesterday"),
        damaged(version=None),
        damaged(pid="1"),
        damaged(loaded=None),
        damaged(problems=7),
        damaged(said_by_a_later_version=1),
        '{"id": "bad"}',
    ],
)
def test_a_damaged_file_is_passed_over_and_disturbs_nobody(tmp_path: Path, text: str) -> None:
    say(tmp_path)
    (tmp_path / FOLDER / "bad.json").write_text(text)
    assert ids(tmp_path) == ["generator-1"]
    sweep(tmp_path, NOW_US)
    assert ids(tmp_path) == ["generator-1"]


def test_bytes_that_are_no_text_are_passed_over(tmp_path: Path) -> None:
    say(tmp_path)
    (tmp_path / FOLDER / "bad.json").write_bytes(b"\xff\xfe\x00")
    assert ids(tmp_path) == ["generator-1"]


def test_sweeping_removes_who_was_killed_and_nobody_else(tmp_path: Path, ended_pid: int) -> None:
    say(tmp_path, "alive")
    say(tmp_path, "killed", pid=ended_pid)
    say(tmp_path, "silent", at_us=NOW_US - round(RUNNING_LIVE_S * 2e6))
    say(tmp_path, "elsewhere", host="another-machine", pid=ended_pid)
    sweep(tmp_path, NOW_US)
    assert files(tmp_path) == ["alive.json", "elsewhere.json"]


def test_who_removes_its_file_is_gone_and_may_do_it_twice(tmp_path: Path) -> None:
    say(tmp_path)
    remove_state(tmp_path, "generator-1")
    remove_state(tmp_path, "generator-1")
    assert live_replicas(tmp_path, NOW_US) == []


def test_a_killed_replica_is_passed_over_within_the_time_of_one_look(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        now_us = time.time_ns() // 1000
        say(tmp_path, pid=process.pid, at_us=now_us)
        assert ids(tmp_path, now_us) == ["generator-1"]
    finally:
        process.kill()
        process.wait()
    assert ids(tmp_path, now_us) == []
