"""kill -9 in a loop: a writer process under load is killed at a random moment, again and again, on one log.

A round forks one or two writers, sometimes with a compaction beside them, and kills each while it starts and
recovers what the last one left, while it writes, or while it closes; some are stopped and continued before. What
got no answer is sent again with the same event_id in a later round, and so are some acknowledged rows, to
writers with a short memory: repeats are really written twice. SIGKILL leaves the page cache, so this does not
test fsync; `power` does.
"""

import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.durability.load import Load, compact_log, write_rows
from benchmarks.durability.outcome import Outcome
from benchmarks.durability.processes import Child, in_child
from benchmarks.durability.reading import Reading, judge_rows, read_snapshot
from deployments.feedback.archive import read_archive_manifest
from deployments.feedback.compaction import compact
from deployments.feedback.directory import read_log
from deployments.feedback.writer import LogWriter

KILLS_A_CHECK = 50
KILLS_A_LOG = 100
"""Then a new log is begun, so that a check reads thousands of rows, not all."""
_MOMENTS = ("start", "start", "work", "work", "work", "close")
_LONGEST_START_S = 30.0
_FIRST_START_S = 0.01


@dataclass(slots=True)
class _Told:
    """What the clients of one log know."""

    acked: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    """Sent without an answer: the row may be there or not."""


def kill(kills: int, seed: int, on_kill: Callable[[int], None] = lambda killed: None) -> Outcome:
    """Kill writers at least ``kills`` times, and check that no acknowledged row is lost, doubled or wrong.

    Args:
        kills: How many writer processes must end by SIGKILL.
        seed: Of every random choice; moments are as exact as the machine's scheduler.
        on_kill: Told how many writers were killed since it was last told.
    """
    rng = random.Random(seed)
    figures: Counter[str] = Counter()
    broken: list[str] = []
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rheostat-kill-") as scratch:
        number = 0
        while figures["kills"] < kills:
            root = Path(scratch) / f"log-{number}"
            campaign = _Campaign(root, rng, figures, broken)
            last = min(kills, figures["kills"] + KILLS_A_LOG)
            while figures["kills"] < last:
                check_at = min(last, figures["kills"] + KILLS_A_CHECK)
                while figures["kills"] < check_at:
                    before = figures["kills"]
                    campaign.play_round()
                    on_kill(figures["kills"] - before)
                campaign.check()
            campaign.finish()
            shutil.rmtree(root)
            number += 1
    took_s = time.monotonic() - began_s
    row: dict[str, Any] = {name: figures[name] for name in _FIGURES}
    row["rounds/s"] = round(figures["rounds"] / took_s, 1)
    return Outcome("kill -9", (row,), tuple(broken), took_s)


_FIGURES = (
    "rounds",
    "kills",
    "kills at start",
    "kills at close",
    "kills of compaction",
    "stopped before",
    "acked",
    "sent again",
    "written again",
    "lost",
    "doubled",
    "wrong",
    "made up",
    "checks",
)


class _Campaign:
    """One log, and what is known of it from outside."""

    def __init__(self, root: Path, rng: random.Random, figures: Counter[str], broken: list[str]) -> None:
        self._root = root
        self._rng = rng
        self._figures = figures
        self._broken = broken
        self._told = _Told()
        self._round = 0
        self._start_s = _FIRST_START_S
        """How long a writer took to open the log, last time."""

    def play_round(self) -> None:
        """Fork, kill, note what was told."""
        rng = self._rng
        self._round += 1
        self._figures["rounds"] += 1
        moments = [rng.choice(_MOMENTS) for _ in range(1 + (rng.random() < 0.15))]
        loads = [self._draw_load(f"r{self._round}w{number}", moment) for number, moment in enumerate(moments)]
        writers = [Child(partial(write_rows, self._root, load)) for load in loads]
        compaction = Child(partial(compact_log, self._root)) if rng.random() < 0.3 else None
        for moment, load, child in zip(moments, loads, writers, strict=True):
            self._kill_writer(child, moment)
            self._hear(load, child)
        if compaction is not None:
            if rng.random() < 0.5:  # some are let through to their end once
                compaction.listen(time.monotonic() + rng.uniform(0, 0.2), "end")
            compaction.end()
            self._figures["kills of compaction"] += compaction.killed
            self._note_errors("compaction", compaction)

    def check(self) -> None:
        """Read the log as the kill left it: nothing may be lost, doubled, wrong or made up."""
        reading, from_segments = in_child(lambda: (read_snapshot(self._root), _read_segments(self._root)))
        self._judge(reading, "as found")
        if from_segments is not None:
            self._judge(from_segments, "segments alone")

    def finish(self) -> None:
        """Open the log once more, close it in peace, compact it; check after each."""
        in_child(lambda: LogWriter(self._root).close())
        self.check()
        in_child(lambda: compact(self._root))
        self.check()
        self._figures["acked"] += len(self._told.acked)

    def _draw_load(self, name: str, moment: str) -> Load:
        rng = self._rng
        clients = rng.choice((1, 4, 8, 16))
        again = [event_id for event_id in sorted(self._told.unknown) if rng.random() < 0.5]
        again += rng.sample(sorted(self._told.acked), min(len(self._told.acked), rng.randrange(30)))
        self._figures["sent again"] += len(again)
        return Load(
            name=name,
            clients=clients,
            on_loop=rng.random() < 0.5,
            repeats=tuple(tuple(again[client::clients]) for client in range(clients)),
            rows=rng.choice((20, 100)) if moment == "close" else 10**9,
            max_rows=rng.choice((5, 40, 200)),
            recent_rows=rng.choice((1, 65_536)),
            queue_limit=rng.choice((4, 64)),
        )

    def _kill_writer(self, child: Child, moment: str) -> None:
        rng = self._rng
        now_s = time.monotonic()
        if moment == "start":
            child.listen(now_s + _LONGEST_START_S, "start")
            child.listen(time.monotonic() + rng.uniform(0, self._start_s))
        else:
            child.listen(now_s + _LONGEST_START_S, "ready")
            self._start_s = time.monotonic() - now_s
            if moment == "close":
                child.listen(time.monotonic() + _LONGEST_START_S, "close")
                child.listen(time.monotonic() + rng.uniform(0, 0.004))
            else:
                child.listen(time.monotonic() + rng.uniform(0, 0.06))
        if rng.random() < 0.1:
            self._figures["stopped before"] += 1
            child.signal(signal.SIGSTOP)
            child.listen(time.monotonic() + rng.uniform(0, 0.01))
            if rng.random() < 0.7:
                child.signal(signal.SIGCONT)
                child.listen(time.monotonic() + rng.uniform(0, 0.01))
        child.end()
        if child.killed:
            self._figures["kills"] += 1
            self._figures["kills at start"] += "ready" not in child.lines
            self._figures["kills at close"] += "close" in child.lines

    def _hear(self, load: Load, child: Child) -> None:
        self._note_errors(load.name, child)
        written = {line.removeprefix("ack ") for line in child.lines if line.startswith("ack ")}
        acked = written | {line.removeprefix("known ") for line in child.lines if line.startswith("known ")}
        self._figures["written again"] += len(written & self._told.acked)
        self._told.acked |= acked
        for client in range(load.clients):
            # Each waits for an answer before it sends the next.
            repeats = [event_id for event_id in load.repeats[client] if event_id not in acked]
            news = sum(event_id.startswith(f"{load.name}-{client}-") for event_id in acked)
            self._told.unknown |= {*repeats, f"{load.name}-{client}-{news}"}
        self._told.unknown -= self._told.acked

    def _note_errors(self, who: str, child: Child) -> None:
        errors = [line for line in child.lines if line.startswith("error ")]
        self._broken += [f"kill: {who}: {line}" for line in errors]
        if not child.killed and "end" not in child.lines:
            self._broken.append(f"kill: {who} ended by itself before its end")

    def _judge(self, reading: Reading, when: str) -> None:
        lost = self._told.acked - reading.ids
        made_up = reading.ids - self._told.acked - self._told.unknown
        found = {
            "lost": len(lost),
            "doubled": reading.doubled,
            "wrong": reading.wrong + reading.broken,
            "made up": len(made_up),
        }
        self._figures["checks"] += 1
        self._figures.update(found)
        if any(found.values()) or reading.problems:
            ids = sorted(lost | made_up)[:5]
            self._broken.append(f"kill: round {self._round}, {when}: {found}, {ids}, {reading.problems}")


def _read_segments(root: Path) -> Reading | None:
    """What `read_log` gives; None once a compaction has taken segments away."""
    if read_archive_manifest(root).version:
        return None
    return judge_rows(read_log(root))
