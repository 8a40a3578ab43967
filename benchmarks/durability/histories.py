"""Recorded lives of a log: what the log did to its disk, and what it had promised when.

Besides the operations of `recording`, a record has these marks: ``(ack, event_id)`` an acknowledgement reached
its client; ``(erasing, event_id)`` from here on the row may go; ``(erased, event_id)`` from here on it must be gone.

Each history is the same at every run: all rows of a group are sent in the writer's own thread, which takes them
as one batch.
"""

import random
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.durability.disk import Disk, State, write_state
from benchmarks.durability.recording import CHANGES, Crash, Operation, RecordingFiles, crash_at
from benchmarks.durability.rows import event_row
from deployments.feedback.compaction import compact
from deployments.feedback.segment_writer import RotationLimits
from deployments.feedback.writer import LogWriter
from graph.contracts import LogAck

LOG = "log"
"""The log's root, below the disk's: the log makes it, so that this is recorded too."""
_LIMITS = RotationLimits(max_rows=6)
_GROUPS = (1, 3, 2, 5)
"""Rows of each batch: one segment is sealed, and one stays open."""


@dataclass(frozen=True, slots=True)
class History:
    """A record, and the disk as it was before."""

    disk_root: Path
    start: State
    operations: tuple[Operation, ...]
    since: int = 0
    """Moments before this operation are those of another history."""

    def replay(self) -> Iterator[tuple[int, Operation | None, Disk]]:
        """Yield (position, operation just done, the disk then), from the start on; the disk is always the same."""
        disk = Disk(self.disk_root)
        with tempfile.TemporaryDirectory() as scratch:
            write_state(Path(scratch, "start"), self.start)
            disk.load(Path(scratch, "start"))
        yield 0, None, disk
        for position, operation in enumerate(self.operations, start=1):
            disk.apply(operation)
            yield position, operation, disk


MakeFiles = Callable[[], RecordingFiles]


class Recorder:
    """Lets writers and compaction work on one recorded disk."""

    def __init__(self, make_files: MakeFiles, start: State | None = None) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="rheostat-history-")
        self.disk = Path(self._scratch.name, "disk")
        write_state(self.disk, start or {})
        self._start = start or {}
        self.files = make_files()
        self.root = self.disk / LOG
        self.sent: list[str] = []
        self._writers: list[LogWriter] = []

    def open(self, name: str, limits: RotationLimits = _LIMITS) -> LogWriter:
        """Start a writer, recovery included."""
        writer = LogWriter(self.root, limits=limits, files=self.files, writer_id=name)
        self._writers.append(writer)
        return writer

    def send(self, writer: LogWriter, groups: Sequence[Sequence[str]]) -> None:
        """Let each group be one batch, and wait until all were answered; the first group must be one row."""
        rest = list(groups)
        answered = threading.Event()

        def send_next() -> None:
            if not rest:
                answered.set()
                return
            group = rest.pop(0)
            self.sent += group
            futures = [(event_id, writer.submit(event_row(event_id))) for event_id in group]
            for event_id, future in futures:
                future.add_done_callback(lambda done, event_id=event_id: note(event_id, done))
            futures[-1][1].add_done_callback(lambda _: send_next())

        def note(event_id: str, done: Future[LogAck]) -> None:
            if done.exception() is None:
                self.files.log.append(("ack", event_id))
                if event_id.startswith("erase:"):
                    self.files.log.append(("erasing", event_id.removeprefix("erase:")))
            else:
                rest.clear()

        send_next()
        answered.wait()

    def compact(self) -> None:
        """Run one compaction; what was to be erased before is erased after."""
        erasing = [operation[1] for operation in self.files.log if operation[0] == "erasing"]
        compact(self.root, self.files, max_file_rows=8)
        self.files.log.extend(("erased", event_id) for event_id in erasing)

    def kill(self, writer: LogWriter, event_id: str) -> None:
        """End a writer as kill -9 does in mid-commit: the row is written, and nothing happens after that."""
        hook, self.files.fail = self.files.fail, crash_at(0, "sync")
        self.send(writer, [[event_id]])
        writer.close()
        self.files.fail = hook

    def end_writers(self) -> None:
        """Close those that are open still."""
        while self._writers:
            self._writers.pop().close()

    def finish(self, since: int = 0) -> History:
        """End all writers; their sealing is part of the history."""
        self.end_writers()
        self._scratch.cleanup()
        return History(self.disk, self._start, tuple(self.files.log), since)


def restarted(make_files: MakeFiles) -> History:
    """A writer that closes, one that is killed in a commit, one that recovers what that left."""
    recorder = Recorder(make_files)
    _restart(recorder)
    return recorder.finish()


def killed(make_files: MakeFiles, rng: random.Random) -> Iterator[History]:
    """As `restarted`, killed at any step; its successor gets all rows again."""
    for step in _steps(rng, _restart):
        recorder = Recorder(make_files)
        recorder.files.fail = crash_at(step)
        with suppress(Crash):
            _restart(recorder)
        recorder.end_writers()
        recorder.files.fail = _go_on
        since = len(recorder.files.log)
        recorder.send(recorder.open("next"), _repeats(recorder.sent))
        yield recorder.finish(since)


def joined(make_files: MakeFiles, rng: random.Random) -> Iterator[History]:
    """As `restarted`, and at any step a second writer starts beside the first and gets all rows again."""
    for step in _steps(rng, _restart):
        recorder = Recorder(make_files)
        since: list[int] = []

        def join(recorder: Recorder = recorder, since: list[int] = since) -> None:
            since.append(len(recorder.files.log))
            recorder.send(recorder.open("beside", RotationLimits()), _repeats(recorder.sent))

        recorder.files.fail = _once_at(step, join, recorder.files)
        _restart(recorder)
        yield recorder.finish(*since)


def compacted(make_files: MakeFiles) -> History:
    """Two compactions, each with rows to erase; between them and after them the log goes on."""
    recorder = Recorder(make_files)
    since = _until_second_compaction(recorder)
    recorder.compact()
    recorder.send(recorder.open("last"), [["last-0"], ["c-0-0", "last-1"]])
    return recorder.finish(since)


def compaction_killed(make_files: MakeFiles, rng: random.Random) -> Iterator[History]:
    """As `compacted`, but the second compaction is killed at any step; another one follows."""
    for step in _steps(rng, Recorder.compact, _until_second_compaction):
        recorder = Recorder(make_files)
        _until_second_compaction(recorder)
        since = len(recorder.files.log)
        recorder.files.fail = crash_at(step)
        with suppress(Crash):
            recorder.compact()
        recorder.files.fail = _go_on
        recorder.send(recorder.open("next"), [["next-0"], ["c-0-0", "next-1"]])
        recorder.compact()
        yield recorder.finish(since)


def compaction_joined(make_files: MakeFiles, rng: random.Random) -> Iterator[History]:
    """As `compacted`, and at any step of the second compaction a writer starts, writes and ends beside it."""
    for step in _steps(rng, Recorder.compact, _until_second_compaction):
        recorder = Recorder(make_files)
        _until_second_compaction(recorder)
        since = len(recorder.files.log)

        def join(recorder: Recorder = recorder) -> None:
            writer = recorder.open("beside", RotationLimits())
            recorder.send(writer, [["beside-0"], ["c-0-0", "beside-1"]])
            writer.close()

        recorder.files.fail = _once_at(step, join, recorder.files)
        recorder.compact()
        yield recorder.finish(since)


def cut_again(make_files: MakeFiles, first: History, rng: random.Random) -> Iterator[History]:
    """After a power cut at any moment of ``first``, the log starts on what was left, and goes on."""
    while True:
        at = rng.randrange(len(first.operations) + 1)
        for position, _, disk in first.replay():
            if position == at:
                state = rng.choice(list(disk.states(8, rng)))
                break
        recorder = Recorder(make_files, state)
        marks = [operation for operation in first.operations[:at] if operation[0] not in CHANGES]
        recorder.files.log += marks
        recorder.send(recorder.open("after"), [["after-0"], ["after-1", "after-2"]])
        yield recorder.finish(since=len(marks))


def _restart(recorder: Recorder) -> None:
    _live_and_die(recorder)
    recorder.send(recorder.open("c"), [["b-killed"], ["b-3-1", "c-0"], ["c-1"]])


def _live_and_die(recorder: Recorder) -> None:
    first = recorder.open("a")
    recorder.send(first, _ids("a"))
    first.close()
    second = recorder.open("b")
    recorder.send(second, [["a-0-0"], *_ids("b")])
    recorder.kill(second, "b-killed")


def _until_second_compaction(recorder: Recorder) -> int:
    """Gives how many operations came before the first one."""
    _live_and_die(recorder)
    third = recorder.open("c")
    recorder.send(third, [*_ids("c"), ["erase:a-1-0", "erase:c-1-1"]])
    third.close()
    first = len(recorder.files.log)
    recorder.compact()
    fourth = recorder.open("d")
    # One row to erase lies in a Parquet file, one in a segment.
    recorder.send(fourth, [*_ids("d"), ["erase:a-3-2", "erase:d-1-1"]])
    fourth.close()
    recorder.open("e")
    return first


def _steps(
    rng: random.Random, work: Callable[[Recorder], None], before: Callable[[Recorder], object] = lambda recorder: None
) -> Iterator[int]:
    """The number of each operation that ``work`` does, mixed; and again, for ever."""
    recorder = Recorder(RecordingFiles)
    before(recorder)
    began = len(recorder.files.log)
    work(recorder)
    steps = sum(operation[0] in CHANGES for operation in recorder.files.log[began:])
    recorder.finish()
    while True:
        yield from rng.sample(range(steps), steps)


def _once_at(step: int, act: Callable[[], None], files: RecordingFiles) -> Callable[[Operation], None]:
    """A hook that lets ``step`` operations pass, acts before the next one, and is gone then."""
    left = [step]

    def hook(operation: Operation) -> None:
        left[0] -= 1
        if left[0] < 0:
            files.fail = _go_on
            act()

    return hook


def _go_on(operation: Operation) -> None:
    return None


def _repeats(sent: Sequence[str]) -> list[list[str]]:
    """All rows that were sent, and a new one."""
    return [["new-0"], [*dict.fromkeys(sent), "new-1"]]


def _ids(name: str, groups: Sequence[int] = _GROUPS) -> list[list[str]]:
    return [[f"{name}-{number}-{row}" for row in range(rows)] for number, rows in enumerate(groups)]
