"""Power cuts: what every allowed state of the disk gives to a reader, and to the writer that starts on it.

Recorded histories (`histories`) are replayed operation by operation; at each moment `disk.Disk` tells what a
power cut may leave. Each distinct state is written to a directory, read, started on by a new writer, and read
again. Every row acknowledged by that moment must be there, once and as written; every row erased by a finished
compaction must be gone.

That the enumeration can see such faults is shown by three mutants of the file layer, each of which forgets one
kind of sync: each must lose rows.
"""

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.durability import histories
from benchmarks.durability.disk import Disk, State, write_state
from benchmarks.durability.histories import LOG, History, MakeFiles
from benchmarks.durability.outcome import Outcome
from benchmarks.durability.reading import Reading, judge_rows, read_snapshot
from benchmarks.durability.recording import Operation, QuickFiles, RecordingFiles
from benchmarks.durability.rows import event_row
from benchmarks.durability.workers import Workers
from deployments.feedback.archive import read_archive_manifest
from deployments.feedback.directory import read_log
from deployments.feedback.writer import LogWriter

_PROBE = "written-after-the-cut"
_MOST_AT_A_MOMENT = 2_000
"""The log as it is never has more."""
_MUTANT_MOST_AT_A_MOMENT = 50
"""A mutant, which syncs too little, has any number."""
_FIRST_AT_A_MOMENT = 8
_PATIENCE = 50
"""Equal states in a row after which it is another source's turn."""
_TURNS = {"restart": 2, "compaction": 6}
"""States taken of these histories at each one of the others: about as many as they have, when 10,000 are asked for."""
_STATES_A_HISTORY = 16
_CANDIDATES = 8
"""States at one moment, besides the four corners, of which one is picked."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What was promised by the moment of the cut."""

    history: str
    position: int
    acked: frozenset[str]
    erased: frozenset[str]


@dataclass(frozen=True, slots=True)
class After:
    """What one state of the disk gives."""

    found: Reading | None
    """As found; None with a `refusal`."""
    restarted: Reading | None
    """After a new writer started on it and wrote one row."""
    corrupt: int
    """Segments that recovery calls corrupt: a power cut alone must not look like bit rot."""
    refusal: str | None
    """What stopped reader or writer."""


@dataclass(slots=True)
class _Enumeration:
    """Each distinct state once, with every promise that it must keep."""

    promises: list[list[Promise]] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    """Distinct states by the history that came upon them first."""
    complete: set[str] = field(default_factory=set)
    """Histories of which every state was taken."""
    _index: dict[int, int] = field(default_factory=dict)

    def distinct(self, sources: dict[str, Iterator[tuple[Promise, State]]], most: int) -> Iterator[State]:
        """Yield up to ``most`` states that differ, from all sources in turn."""
        turns = cycle([name for name in sources for _ in range(_TURNS.get(name, 1))])
        while sources and len(self.promises) < most:
            name = next(turns)
            if name in sources:
                yield from self._next_of(name, sources)

    def _next_of(self, name: str, sources: dict[str, Iterator[tuple[Promise, State]]]) -> Iterator[State]:
        """One new state of this source, if it has any among its next."""
        for _ in range(_PATIENCE):
            entry = next(sources[name], None)
            if entry is None:
                del sources[name]
                self.complete.add(name)
                return
            promise, state = entry
            key = hash(frozenset(state.items()))
            if key not in self._index:
                self._index[key] = len(self.promises)
                self.promises.append([promise])
                self.states[name] += 1
                yield state
                return
            self.promises[self._index[key]].append(promise)


def power(
    states: int,
    seed: int,
    scratch: Path | None = None,
    processes: int = 2,
    mutant_states: int = 600,
    on_state: Callable[[int], None] = lambda checked: None,
) -> Outcome:
    """Check ``states`` distinct states of the disk after a power cut, and that the mutants are caught.

    Args:
        states: How many. Fewer are a broken promise.
        seed: Of what is picked where not all states are taken.
        scratch: Where the states are written; best a file system in memory. None: the usual temporary place.
        processes: At once.
        mutant_states: At each mutant.
        on_state: Told how many states were checked since it was last told.
    """
    began_s = time.monotonic()
    check = partial(_enumerate, seed=seed, scratch=scratch, processes=processes, on_state=on_state)
    rows, broken = check("as it is", RecordingFiles, states, _MOST_AT_A_MOMENT)
    if rows[-1]["distinct"] < states:
        broken.append(f"power: only {rows[-1]['distinct']} states are distinct, {states} were asked for")
    for forgets, log in MUTANTS.items():
        mutant_rows, found = check(
            log, partial(ForgetfulFiles, forgets=forgets), mutant_states, _MUTANT_MOST_AT_A_MOMENT
        )
        rows.append(mutant_rows[-1])
        if not found:
            broken.append(f"power: the enumeration does not see that the log {log}")
    return Outcome("power cuts", tuple(rows), tuple(broken), time.monotonic() - began_s)


MUTANTS = {
    "sync": "forgets fdatasync",
    "create": "forgets to sync a directory after create",
    "rename": "forgets to sync a directory after rename",
}


@dataclass
class ForgetfulFiles(RecordingFiles):
    """A file layer with a bug: it leaves out one kind of sync."""

    forgets: str = "sync"

    def fdatasync(self, fd: int) -> None:
        if self.forgets != "sync":
            super().fdatasync(fd)

    def fsync_dir(self, path: Path) -> None:
        changes = (_entry_change(operation, path) for operation in reversed(self.log))
        if self.forgets != next(filter(None, changes), None):
            super().fsync_dir(path)


def _entry_change(operation: Operation, directory: Path) -> str | None:
    """Whether the operation made or moved an entry of this directory."""
    match operation:
        case ("mkdir" | "create", path, *_) if path.parent == directory:
            return "create"
        case ("rename", source, target) if directory in (source.parent, target.parent):
            return "rename"
    return None


def _sources(make_files: MakeFiles, most: int, rng: random.Random) -> dict[str, Iterator[tuple[Promise, State]]]:
    """States by kind of history: two histories of which all are taken, and many of which some are."""
    restarted, compacted = histories.restarted(make_files), histories.compacted(make_files)
    return {
        "restart": _every_state("restart", restarted, most, rng),
        "compaction": _every_state("compaction", compacted, most, rng),
        "kill": _some_states("kill", histories.killed(make_files, rng), rng),
        "second writer": _some_states("second writer", histories.joined(make_files, rng), rng),
        "compaction killed": _some_states("compaction killed", histories.compaction_killed(make_files, rng), rng),
        "writer in compaction": _some_states("writer in compaction", histories.compaction_joined(make_files, rng), rng),
        "power cut": _some_states("power cut", histories.cut_again(make_files, compacted, rng), rng),
    }


def _every_state(name: str, history: History, most: int, rng: random.Random) -> Iterator[tuple[Promise, State]]:
    """First a few of each moment, then the rest; of a moment that has more than ``most``, so many."""
    positions = list(range(history.since, len(history.operations) + 1))
    rng.shuffle(positions)
    rest: list[tuple[Promise, State]] = []
    for position in positions:
        promise, disk = next(moment for moment in _moments(name, history) if moment[0].position == position)
        states = [(promise, state) for state in disk.states(most, rng)]
        rng.shuffle(states)
        yield from states[:_FIRST_AT_A_MOMENT]
        rest += states[_FIRST_AT_A_MOMENT:]
    yield from rest


def _some_states(name: str, many: Iterator[History], rng: random.Random) -> Iterator[tuple[Promise, State]]:
    for history in many:
        chosen = Counter(rng.choices(range(history.since, len(history.operations) + 1), k=_STATES_A_HISTORY))
        for promise, disk in _moments(name, history):
            if promise.position in chosen:
                states = list(disk.states(_CANDIDATES, rng))
                yield from ((promise, rng.choice(states)) for _ in range(chosen[promise.position]))


def _moments(name: str, history: History) -> Iterator[tuple[Promise, Disk]]:
    """What was promised by each moment, and the disk then."""
    acked: set[str] = set()
    erased: set[str] = set()
    for position, operation, disk in history.replay():
        match operation:
            case ("ack", event_id):
                acked.add(event_id)
            case ("erasing", event_id):
                acked.discard(event_id)
            case ("erased", event_id):
                erased.add(event_id)
        if position >= history.since:
            yield Promise(name, position, frozenset(acked), frozenset(erased)), disk


def _enumerate(
    log: str,
    make_files: MakeFiles,
    states: int,
    most_at_a_moment: int,
    *,
    seed: int,
    scratch: Path | None,
    processes: int,
    on_state: Callable[[int], None],
) -> tuple[list[dict[str, Any]], list[str]]:
    """(a row a history and one for all, what was broken)."""
    enumeration = _Enumeration()
    results = []
    with Workers(processes) as pool:
        sources = _sources(make_files, most_at_a_moment, random.Random(seed))
        names = list(sources)
        todo = ((state, scratch) for state in enumeration.distinct(sources, states))
        for after in pool.map(_check, todo):
            results.append(after)
            on_state(1)
    faults = {name: Counter[str]() for name in names}
    broken: list[str] = []
    for promises, after in zip(enumeration.promises, results, strict=True):
        for fault, count, promise in _faults(promises, after):
            faults[promise.history][fault] += count
            if len(broken) < _LONGEST_LIST:
                where = f"{promise.history}, after operation {promise.position}"
                broken.append(f"power: {log}: {count} {fault}: {where}: {after.refusal or ''}")
    rows = [_row(log, name, enumeration, faults[name]) for name in names]
    rows.append(_row(log, "all", enumeration, sum(faults.values(), Counter())))
    return rows, broken


def _row(log: str, history: str, enumeration: _Enumeration, faults: Counter[str]) -> dict[str, Any]:
    every = history == "all"
    return {
        "log": log,
        "history": history,
        "distinct": enumeration.states.total() if every else enumeration.states[history],
        "taken": "" if every else "every state" if history in enumeration.complete else "some",
        **{fault: faults[fault] for fault in _FAULTS},
    }


_FAULTS = ("lost", "wrong", "doubled", "resurrected", "false alarms", "refused")
"""lost: acknowledged rows that are not there. resurrected: rows that a finished compaction had erased. false alarms:
segments called corrupt, which a power cut alone cannot make them. refused: states that cannot be read or started on."""
_LONGEST_LIST = 20


def _faults(promises: list[Promise], after: After) -> Iterator[tuple[str, int, Promise]]:
    """(what, how many rows, broken promise) of one state."""
    first = promises[0]
    if after.refusal is not None:
        yield "refused", 1, first
    if after.corrupt:
        yield "false alarms", after.corrupt, first
    for reading in filter(None, (after.found, after.restarted)):
        if reading.wrong + reading.broken:
            yield "wrong", reading.wrong + reading.broken, first
        if reading.doubled:
            yield "doubled", reading.doubled, first
        for promise in promises:
            if lost := promise.acked - reading.ids:
                yield "lost", len(lost), promise
            if back := promise.erased & reading.ids:
                yield "resurrected", len(back), promise


def _check(work: tuple[State, Path | None]) -> After:
    """Write the state, read it, start a writer on it, read it again; runs in a process of the pool."""
    state, scratch = work
    found = restarted = None
    corrupt = 0
    with tempfile.TemporaryDirectory(prefix="rheostat-power-", dir=scratch) as directory:
        disk = Path(directory, "disk")
        root = disk / LOG
        write_state(disk, state)
        try:
            found = read_snapshot(root)
            if not read_archive_manifest(root).version:
                segments = judge_rows(read_log(root))
                assert (segments.ids, segments.faults) == (found.ids, found.faults), "read_log and snapshot differ"
            writer = LogWriter(root, files=QuickFiles())
            corrupt = sum(segment.corrupt for segment in writer.recovered.segments)
            writer.submit(event_row(_PROBE)).result()
            writer.close()
            restarted = read_snapshot(root)
            assert _PROBE in restarted.ids, "a new row is not there"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            return After(found, restarted, corrupt, f"{type(error).__name__}: {error}")
    return After(found, restarted, corrupt + len(found.problems), None)
