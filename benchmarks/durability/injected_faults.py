"""Faults that a file layer or a clock of ours makes, at every place where they may come.

The n-th operation of a life fails, and mostly all later ones too: a disk that has failed stays so until the restart.
Each function yields one `Case` a place.
"""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.durability.recording import CHANGES, Operation, QuickFiles, RecordingFiles, failing
from benchmarks.durability.rows import event_row
from benchmarks.durability.segments import write_segment
from benchmarks.durability.trial import Case, Trial, check_after, serve
from deployments.feedback.compaction import compact
from deployments.feedback.schema import to_row
from deployments.feedback.writer import LogWriter
from graph.errors import RheostatError

_LEFT = [["left-0"], ["left-1", "left-2"]]
"""Rows of a dead writer: each life begins with a recovery."""
_FULL_STEP_BYTES = 1_111
"""Falls into the middle of heads, batches, manifests and Parquet files alike."""


def is_change(operation: Operation) -> bool:
    """Whether it needs room, or the right to write."""
    return operation[0] in CHANGES and operation[0] not in ("sync", "sync_dir")


def is_operation(operation: Operation) -> bool:
    """Any at all."""
    return True


def writer_fails(
    kind: str | Callable[[Operation], bool], code: int, times: int | None, scratch: Path
) -> Iterator[Case]:
    """A writer recovers, commits and seals; its n-th operation of this kind fails."""
    for place in count():
        root = _begin(scratch, place)
        fault = _Fault(kind, code, place, times)
        trial = serve(root, LosesWhatItCannotSync(fail=fault))
        if not fault.came:
            return
        yield _case(place, root, trial)


def disk_fills(scratch: Path) -> Iterator[Case]:
    """The disk takes n bytes, the last write in part."""
    for size_bytes in count(0, _FULL_STEP_BYTES):
        root = _begin(scratch, size_bytes)
        files = FullDisk(left=size_bytes)
        trial = serve(root, files)
        if files.left:
            return
        yield _case(f"{size_bytes} bytes", root, trial)


def compaction_fails(kind: str | Callable[[Operation], bool], code: int, scratch: Path) -> Iterator[Case]:
    """A compaction recovers, absorbs, replaces and removes; its n-th operation of this kind fails."""
    for place in count():
        root = _begin(scratch, place)
        before = serve(root, QuickFiles())
        compact(root, QuickFiles(), max_file_rows=6)
        again = serve(root, QuickFiles(), "again")
        fault = _Fault(kind, code, place, None)
        trial = Trial(acked=before.acked | again.acked, sent=[*before.sent, *again.sent])
        try:
            compact(root, RecordingFiles(fail=fault), max_file_rows=6)
        except (OSError, RheostatError):
            trial.failed += 1
        except Exception as error:  # noqa: BLE001 - a finding
            trial.wrong.append(repr(error))
        if not fault.came:
            return
        case = _case(place, root, trial)
        compact(root, QuickFiles())
        yield case if case.problem else _case(place, root, trial)


def clock_goes_back(scratch: Path) -> Iterator[Case]:
    """The writer's clock jumps back between groups, and forth again."""
    for place, jump_s in enumerate((1.0, 3_600.0, 1e9, 1e12)):
        now_s = [1e6]

        def jump(group: int, now_s: list[float] = now_s, jump_s: float = jump_s) -> None:
            now_s[0] += jump_s if group % 2 else -jump_s

        root = _begin(scratch, place)
        trial = serve(root, QuickFiles(), between=jump, clock=lambda now_s=now_s: now_s[0])
        yield _case(f"{jump_s:g} s", root, trial)


def wall_clock_goes_back(scratch: Path) -> Iterator[Case]:
    """Later writers, whose clock is behind, write the same rows again: the first written must stay the one read."""
    root = _begin(scratch, 0)
    trial = serve(root, QuickFiles())
    for life in range(3):
        writer = LogWriter(root, files=QuickFiles(), recent_rows=1)
        for event_id in trial.sent:
            trial.note(event_id, writer.submit(to_row({**event_row(event_id), "ts_server_us": 1_000 - life})))
        trial.close(writer)
        yield _case(f"life {life}", root, trial)
    compact(root, QuickFiles())
    yield _case("compacted", root, trial)


INJECTED_FAULTS: dict[str, Callable[[Path], Iterator[Case]]] = {
    "EIO on the n-th fdatasync": partial(writer_fails, "sync", errno.EIO, 1),
    "EIO on fdatasync, from the n-th": partial(writer_fails, "sync", errno.EIO, None),
    "EIO on directory sync, from the n-th": partial(writer_fails, "sync_dir", errno.EIO, None),
    "ENOSPC, from the n-th change": partial(writer_fails, is_change, errno.ENOSPC, None),
    "EROFS, from the n-th change": partial(writer_fails, is_change, errno.EROFS, None),
    "disk full after n bytes": disk_fills,
    "EIO in compaction, from the n-th operation": partial(compaction_fails, is_operation, errno.EIO),
    "ENOSPC in compaction, from the n-th change": partial(compaction_fails, is_change, errno.ENOSPC),
    "the writer's clock goes back": clock_goes_back,
    "the wall clock goes back": wall_clock_goes_back,
}


@dataclass
class FullDisk(QuickFiles):
    """Takes so many bytes, the last write in part, and none after that."""

    left: int = 0

    def write(self, fd: int, data: memoryview) -> int:
        if not self.left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().write(fd, data[: self.left])
        self.left -= written
        return written


@dataclass
class LosesWhatItCannotSync(RecordingFiles):
    """Takes the unsynced bytes away when a sync fails, as Linux may: it marks their pages clean, and drops them."""

    _synced_bytes: dict[int, int] = field(default_factory=dict)

    def create(self, path: Path, *, exclusive: bool) -> int:
        fd = super().create(path, exclusive=exclusive)
        self._synced_bytes[fd] = 0
        return fd

    def fdatasync(self, fd: int) -> None:
        try:
            super().fdatasync(fd)
        except OSError:
            os.ftruncate(fd, self._synced_bytes[fd])
            raise
        self._synced_bytes[fd] = os.fstat(fd).st_size


class _Fault:
    """As `failing`, and tells whether it came."""

    def __init__(self, kind: str | Callable[[Operation], bool], code: int, after: int, times: int | None) -> None:
        self._fail = failing(kind, code, after, times)
        self.came = False

    def __call__(self, operation: Operation) -> OSError | None:
        error = self._fail(operation)
        self.came |= error is not None
        return error


def _begin(scratch: Path, place: int) -> Path:
    """A log on which a writer has died."""
    root = scratch / str(place)
    root.mkdir()
    write_segment(root, "left", _LEFT, sealed=False)
    return root


def _case(place: object, root: Path, trial: Trial) -> Case:
    before = {event_id for batch in _LEFT for event_id in batch}
    return Case(str(place), trial, *check_after(root, trial.acked | before, trial.sent))
