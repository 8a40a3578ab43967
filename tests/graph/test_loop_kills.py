"""The learning loop, killed at its worst moments: gate, promotion, the Rollout deployment, the whole service.

The commands are real processes with real signals; the engine is simulated. Whatever ends, the champion answers all the
while, the aliases are the old ones or the new ones, and replicas agree on them.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.durability.recording import QuickFiles
from deployments.feedback.directory import read_log, read_segments
from deployments.feedback.snapshot import open_snapshot
from deployments.rollout.adapter_files import WEIGHTS
from deployments.rollout.adapter_store import BASE, GateRecord
from deployments.rollout.agreement import wait_until_all_serve
from deployments.rollout.aliases import Aliases
from deployments.rollout.decisions import change_id, gate_id
from deployments.rollout.registry import Registry
from deployments.rollout.replicas import live_replicas
from tests.cluster import ROOT, chat, deploy, wait_until_ready
from tests.curation_log import CurationLog, fill
from tests.graph.conftest import KEYS
from tests.unit.rollout.adapter_support import make_base, make_card, write_adapter
from training.curate import LogSource, curate
from training.curation import CurationParameters
from training.dataset_store import Dataset

CHAT = "/v1/chat/completions"
KEY = "RHEOSTAT_TEST_KEY"
TIMEOUT_S = 60
DIE = "lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)"
MOMENTS = {
    "before the lock": f"registry_files.try_lock = {DIE}",
    "while the new aliases are written": f"files.write_all = files.LocalFiles.write = {DIE}",
    "before they have their name": f"files.LocalFiles.rename = {DIE}",
    "before their name is on the device": f"files.LocalFiles.fsync_dir = lambda self, path: ({DIE})() "
    "if (path / aliases.ALIASES).exists() and registry.Registry(path).aliases().version > VERSION else None",
    "while it waits for the replicas": f"operations.wait_until_all_serve = {DIE}",
}
"""Statements that make a promotion end itself by SIGKILL."""
TAKES_EFFECT = ("before their name is on the device", "while it waits for the replicas")
KILLED = """
import os, signal, sys
from deployments.feedback import files
from deployments.rollout import aliases, operations, registry, registry_files
from training.__main__ import main
VERSION = int(sys.argv.pop(1))
{}
sys.exit(main())
"""


class Loop:
    """What somebody who trains and decides has at hand."""

    def __init__(self, url: str, data_dir: Path, dataset: Dataset, work: Path) -> None:
        self.url = url
        self.log = data_dir / "log"
        self.root = data_dir / "registry"
        self.registry = Registry(self.root)
        self.work = work
        self._dataset = dataset
        self._base = make_base(work / "models")
        self._processes: list[subprocess.Popen[str]] = []

    def register(self, number: int = 0) -> str:
        folder = write_adapter(self.work / f"runs/{number}", number)
        card = make_card(self._base, dataset=self._dataset.name)
        return self.registry.register(folder, self.work / "runs", card, self._base, 16)

    def challenger(self, number: int = 0, passed: bool = True) -> str:
        """An adapter that is challenger, loaded everywhere, and that a gate passed."""
        adapter = self.register(number)
        if passed:
            record = GateRecord(self.aliases.champion, True, time.time_ns() // 1000, {"reasons": ["by hand"]})
            self.registry.record_gate(adapter, record)
        self.agreed(self.registry.set_challenger(adapter, **self.decided()), adapter)
        return adapter

    def decided(self) -> dict[str, Any]:
        return {"expected_version": self.aliases.version, "now_us": time.time_ns() // 1000, "by": "tester"}

    @property
    def aliases(self) -> Aliases:
        return self.registry.aliases()

    def agreed(self, aliases: Aliases, adapter: str) -> None:
        agreement = wait_until_all_serve(self.root, aliases.version, adapter, TIMEOUT_S)
        assert agreement.agreed, agreement.waiting
        assert agreement.replicas >= 2, "an ingress and a generator at least"

    def gate(self, adapter: str, *prompts: str) -> list[str]:
        """The command; it asks these, and another twelve."""
        asked = [*prompts, *(f"What of case {n}, and of {n * 31} more?" for n in range(12))]
        path = self.work / f"prompts-{len(prompts)}.jsonl"
        turns = ([{"role": "user", "content": text}] for text in asked)
        path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns))
        return [
            *("gate", "--adapter", adapter, "--datasets", str(self._dataset.folder.parent), "--log", str(self.log)),
            *("--registry", str(self.root), "--url", self.url, "--key-env", KEY, "--judge", "score"),
            *("--prompts", str(path), "--min-prompts", "10", "--max-tokens", "20"),
        ]

    def start(self, command: list[str], before: str | None = None) -> "subprocess.Popen[str]":
        """A command in a process of its own; ``before``: statements that it runs first."""
        begin = ["-m", "training"]
        if before is not None:
            begin = ["-c", KILLED.format(before), str(self.aliases.version)]
        process = subprocess.Popen(
            [sys.executable, *begin, *command],
            cwd=ROOT,
            env={**os.environ, KEY: KEYS["acme"], "COLUMNS": "400"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def run(self, command: list[str], before: str | None = None) -> tuple[int, dict[str, Any] | None, str]:
        """(exit status, JSON or None, what people read) of a command that ends by itself."""
        return ended(self.start(command, before))

    def promotion(self, adapter: str, *more: str) -> list[str]:
        return ["promote", adapter, "--registry", str(self.root), "--timeout", str(TIMEOUT_S), *more]

    def processes_of(self, deployment: str) -> list[psutil.Process]:
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if f":{deployment}" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def kill_generators(self) -> None:
        killed = {state.id: state.pid for state in self.generators()}
        for pid in killed.values():
            os.kill(pid, signal.SIGKILL)
        until(lambda: {s.id for s in self.generators()} - killed.keys(), lambda: "no new generator came")

    def generators(self) -> list[Any]:
        return [state for state in live_replicas(self.root, time.time_ns() // 1000) if state.role == "generator"]

    def reset(self) -> None:
        """The base model answers alone; no process of ours runs."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        if self.aliases.challenger is not None:
            self.registry.clear_challenger(**self.decided())
        if self.aliases.champion != BASE:
            self.registry.roll_back(**self.decided())
        self.agreed(self.aliases, BASE)


def ended(process: "subprocess.Popen[str]") -> tuple[int, dict[str, Any] | None, str]:
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, json.loads(out) if out else None, " ".join(err.split())


def until(is_so: Callable[[], Any], what: Callable[[], Any]) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < end, what()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("loop")
    source = LogSource(fill(CurationLog(root / "log")).write())
    return curate(root / "datasets", CurationParameters(), log=source, files=QuickFiles())


@pytest.fixture
def loop(url: str, data_dir: Path, dataset: Dataset, tmp_path: Path) -> Iterator[Loop]:
    made = Loop(url, data_dir, dataset, tmp_path)
    made.reset()
    yield made
    made.reset()


class Asking:
    """Users who ask all the while; ``said`` is what they got: (status, arm, adapter) or what went wrong."""

    def __init__(self, client: httpx.Client) -> None:
        self.said: list[tuple[Any, ...]] = []
        self._client = client
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(f"asker-{n}",)) for n in range(2)]

    def _ask(self, user: str) -> None:
        while not self._is_over.is_set():
            response = self._client.post(CHAT, json=chat(user=user, max_tokens=12))
            told = response.json()
            vendor = told.get("rheostat", {})
            self.said.append((response.status_code, vendor.get("arm"), vendor.get("adapter") or BASE))

    def __enter__(self) -> "Asking":
        for thread in self._threads:
            thread.start()
        until(lambda: self.said, lambda: "nobody is answered")
        return self

    def __exit__(self, *_: object) -> None:
        so_far = len(self.said)
        until(lambda: len(self.said) >= so_far + 4, lambda: "answers do not go on")
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def answered_by(self) -> set[tuple[Any, ...]]:
        return set(self.said)


@pytest.fixture
def asking(client: httpx.Client) -> Asking:
    return Asking(client)


def who(client: httpx.Client, **fields: Any) -> tuple[str, str]:
    response = client.post(CHAT, json=chat(max_tokens=12, **fields))
    assert response.status_code == 200, response.text
    told = response.json()["rheostat"]
    return told["arm"], told["adapter"] or BASE


def has_asked(loop: Loop, adapter: str) -> bool:
    return any(row["adapter"] == adapter and row["arm"] == "challenger" for row in read_log(loop.log))


# The gate


def test_a_gate_killed_while_it_asks_reaches_no_user_and_the_next_one_goes_on(loop: Loop, asking: Asking) -> None:
    killed, adapter = loop.register(10), loop.register(11)
    with asking:
        # "hang at once" is never answered: it cannot have ended when it is killed.
        gate = loop.start(loop.gate(killed, "hang at once"))
        until(lambda: has_asked(loop, killed) or gate.poll() is not None, lambda: "the gate asks nothing")
        assert gate.poll() is None, ended(gate)
        gate.kill()
        assert ended(gate)[:2] == (-signal.SIGKILL, None)
        assert (loop.aliases.champion, loop.aliases.challenger, loop.aliases.share) == (BASE, killed, 0.0)
        status, told, shown = loop.run(loop.gate(adapter))
    # Whether it passes is chance: its texts differ from the champion's by its name alone.
    assert status in (0, 3), shown
    assert told is not None
    assert (told["adapter"], told["champion"], told["prompts"]) == (adapter, BASE, 12)
    assert loop.registry.card(killed).gates == ()
    assert [gate.passed for gate in loop.registry.card(adapter).gates] == [told["passed"]]
    assert loop.aliases.challenger == (adapter if told["passed"] else None)
    assert asking.answered_by() == {(200, "champion", BASE)}


def test_a_gate_that_is_told_to_end_takes_its_challenger_away(loop: Loop, asking: Asking) -> None:
    adapter = loop.register(12)
    with asking:
        gate = loop.start(loop.gate(adapter, "hang at once"))
        until(lambda: has_asked(loop, adapter) or gate.poll() is not None, lambda: "the gate asks nothing")
        gate.terminate()
        status, told, shown = ended(gate)
    assert (status, told) == (1, None)
    assert "interrupted" in shown
    assert "Traceback" not in shown
    assert (loop.aliases.champion, loop.aliases.challenger) == (BASE, None)
    assert loop.registry.card(adapter).gates == ()
    assert asking.answered_by() == {(200, "champion", BASE)}


# Promotion


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_promotion_killed_at_any_moment_leaves_the_old_aliases_or_the_new(
    loop: Loop, asking: Asking, client: httpx.Client, moment: str
) -> None:
    adapter = loop.challenger()
    before = loop.aliases
    with asking:
        status, told, shown = loop.run(loop.promotion(adapter), MOMENTS[moment])
        assert (status, told) == (-signal.SIGKILL, None), shown
        assert (loop.aliases.champion == adapter) == (moment in TAKES_EFFECT)
        if moment in TAKES_EFFECT:
            assert (loop.aliases.version, loop.aliases.previous) == (before.version + 1, BASE)
        else:
            assert loop.aliases == before
        loop.agreed(loop.aliases, loop.aliases.champion)
        assert who(client) == ("champion", loop.aliases.champion)
        if moment not in TAKES_EFFECT:
            status, told, shown = loop.run(loop.promotion(adapter))
            assert status == 0, shown
    assert loop.aliases.champion == adapter
    assert not list(loop.root.glob("*.tmp"))
    assert asking.answered_by() <= {(200, "champion", BASE), (200, "champion", adapter)}


def test_of_two_promotions_at_once_one_is_refused(loop: Loop, client: httpx.Client) -> None:
    adapter = loop.challenger()
    version = str(loop.aliases.version)
    rivals = [loop.start(loop.promotion(adapter, "--expected-version", version)) for _ in range(2)]
    (won, told, _), (lost, nothing, shown) = sorted((ended(rival) for rival in rivals), key=lambda end: end[0])
    assert (won, lost, nothing) == (0, 1, None)
    assert told is not None
    assert (told["champion"], told["agreed"]) == (adapter, True)
    assert "another one came first" in shown
    assert [change.action for change in loop.aliases.history].count("promote") >= 1
    assert (loop.aliases.champion, loop.aliases.version) == (adapter, int(version) + 1)
    assert who(client) == ("champion", adapter)


# The service


def test_a_service_that_is_started_anew_serves_its_champion_and_goes_on_without_it_when_it_is_damaged(
    loop: Loop, client: httpx.Client, config: dict[str, Any], url: str
) -> None:
    from ray import serve

    adapter = loop.challenger(20)
    loop.agreed(loop.registry.promote(adapter, **loop.decided()), adapter)
    serve.delete(config["applications"][0]["name"])
    assert live_replicas(loop.root, time.time_ns() // 1000) == []
    deploy(config)
    wait_until_ready(url)
    loop.agreed(loop.aliases, adapter)
    assert who(client) == ("champion", adapter)

    weights = loop.registry.path(adapter) / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-7])
    loop.kill_generators()
    wait_until_ready(url)
    assert who(client) == ("champion", BASE)
    told = client.get("/v1/rollout").json()
    assert (told["champion"], told["agreed"]) == (adapter, False)
    assert any(f"The adapter {adapter} is damaged" in line for line in told["waiting"]), told["waiting"]
    assert all(state.loaded == () for state in loop.generators())


def test_a_killed_rollout_costs_no_answer_and_counts_on_where_it_was(loop: Loop, client: httpx.Client) -> None:
    adapter = loop.challenger(30)
    loop.agreed(loop.registry.set_share(0.5, **loop.decided()), adapter)

    def counted() -> int:
        watch = client.get("/v1/rollout").json()["watch"]
        arrived = (watch.get("canary") or {}).get("signals", {}).get("errors", {})
        return int(arrived.get("champion_answers", 0) + arrived.get("canary_answers", 0))

    def ask(users: range) -> set[tuple[str, str]]:
        return {who(client, user=f"person-{n}") for n in users}

    assert ask(range(16)) == {("champion", BASE), ("challenger", adapter)}
    until(lambda: counted() == 16, lambda: client.get("/v1/rollout").json()["watch"])
    (process,) = loop.processes_of("Rollout")
    process.kill()
    process.wait(TIMEOUT_S)
    assert ask(range(16, 24)) <= {("champion", BASE), ("challenger", adapter)}
    until(lambda: counted() == 24, lambda: client.get("/v1/rollout").json()["watch"])
    assert loop.processes_of("Rollout") != [process]
    assert (loop.aliases.challenger, loop.aliases.share) == (adapter, 0.5)


# HTTP


def test_each_route_does_what_it_says_or_refuses_by_name_and_decisions_are_logged_once(
    loop: Loop, client: httpx.Client
) -> None:
    first_version = loop.aliases.version
    adapter = loop.register(40)

    def post(route: str, **body: Any) -> tuple[int, dict[str, Any]]:
        response = client.post(f"/v1/rollout/{route}", json=body)
        told = response.json()
        return response.status_code, told.get("error", told)

    def version() -> int:
        told: dict[str, Any] = client.get("/v1/rollout").json()
        assert told["problem"] is None
        return int(told["version"])

    for path in ("../../etc", "../../etc/passwd", f"{adapter[:-1]}/"):
        for route, more in (("promote", {"expected_version": version()}), ("canary", {"share": 0.1})):
            status, error = post(route, adapter=path, **more)
            assert (status, error["param"]) == (400, "adapter"), error
    status, error = post("promote", adapter="0" * 64, expected_version=version())
    assert (status, error["code"]) == (404, "not_found")
    assert post("canary", adapter="0" * 64, share=0.1)[0] == 404
    assert version() == first_version

    status, told = post("canary", adapter=adapter, share=0.25, reason="a first look", timeout_s=TIMEOUT_S)
    assert (status, told["challenger"], told["share"], told["agreed"]) == (200, adapter, 0.25, True)
    status, error = post("promote", adapter=adapter, expected_version=version())
    assert (status, error["code"]) == (409, "conflict")
    assert "The gate has not compared" in error["message"]
    record = GateRecord(BASE, True, time.time_ns() // 1000, {"reasons": ["by hand"]})
    loop.registry.record_gate(adapter, record)
    status, error = post("promote", adapter=adapter, expected_version=version() - 1)
    assert status == 409
    assert "another one came first" in error["message"]
    status, told = post("promote", adapter=adapter, expected_version=version(), timeout_s=TIMEOUT_S)
    assert (status, told["champion"], told["agreed"]) == (200, adapter, True)
    assert who(client) == ("champion", adapter)
    status, told = post("rollback", reason="it was a test", timeout_s=TIMEOUT_S)
    assert (status, told["champion"], told["previous"], told["agreed"]) == (200, BASE, adapter, True)
    assert who(client) == ("champion", BASE)
    assert post("rollback")[0] == 409
    assert post("canary", adapter=None)[0] == 409

    changes = [change for change in loop.aliases.history if change.version > first_version]
    assert [change.action for change in changes] == ["set_challenger", "set_share", "promote", "roll_back"]
    assert {change.by for change in changes} == {"http acme"}
    expected = [*(change_id(change) for change in changes), gate_id(adapter, record)]
    until(lambda: logged(loop, expected) == set(expected), lambda: client.get("/v1/rollout").json()["watch"])
    assert set(times_written(loop, expected).values()) <= {1}


def test_every_decision_of_all_that_is_in_the_log_once(loop: Loop, client: httpx.Client) -> None:
    """Kills of promotions, of Rollout and of the service included, where they ran before."""
    loop.challenger(50)
    changes = [change_id(change) for change in loop.aliases.history]
    gates = [gate_id(name, gate) for name in loop.registry.adapters() for gate in loop.registry.card(name).gates]
    expected = [*changes, *gates]
    until(lambda: logged(loop, expected) == set(expected), lambda: client.get("/v1/rollout").json()["watch"])
    assert set(times_written(loop, expected).values()) <= {1}


def logged(loop: Loop, event_ids: list[str]) -> set[str]:
    """Those that the log has, compacted or not."""
    import pyarrow.parquet as pq

    snapshot = open_snapshot(loop.log)
    tables = [snapshot.tail, *(pq.read_table(path, columns=["event_id"]) for path in snapshot.parquet)]
    return {event_id for table in tables for event_id in table.column("event_id").to_pylist()} & set(event_ids)


def times_written(loop: Loop, event_ids: list[str]) -> Counter[str]:
    """How often each stands in the segments, before readers leave repeats out."""
    wanted = set(event_ids)
    return Counter(
        event_id
        for readout in read_segments(loop.log)
        for batch in readout.batches
        for event_id in batch.data.column("event_id").to_pylist()
        if event_id in wanted
    )
