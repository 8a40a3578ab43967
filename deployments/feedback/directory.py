"""The log as a directory of segments: who may write where, what a crash left, and all rows in order.

    ROOT/writer=<id>/epoch=<n>/writer.lock                   held while that incarnation lives
                               seg-000000.arrows             a segment; alone: unsealed
                               seg-000000.manifest.json      ... sealed
                               seg-000000.recovered.arrows   the whole batches of a segment that a crash left
    ROOT/quarantine/                                         the originals of the latter, as found

An epoch is larger than any epoch of the log when it was claimed, so (epoch, writer, number) orders segments
without trusting a clock: incarnations that did not overlap are in their true order. So the largest epoch's directory is
never removed, even when it is empty.
"""

import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.feedback.files import FileLayer, FileLock, ensure_directory, replace_file, try_lock
from deployments.feedback.schema import COLUMN_NAMES
from deployments.feedback.segment_format import Manifest, epoch_directory, manifest_path, write_manifest
from deployments.feedback.segment_reader import SegmentReadout, read_segment
from graph.errors import InternalError

QUARANTINE = "quarantine"
_LOCK = "writer.lock"
_SEGMENT = re.compile(r"seg-(\d{6,})(\.recovered)?\.arrows")


@dataclass(frozen=True, slots=True)
class EpochClaim:
    """The right to write into one epoch. Close it when the last segment is closed."""

    writer_id: str
    epoch: int
    lock: FileLock

    def close(self) -> None:
        """Let recovery treat this epoch as ended."""
        self.lock.close()


@dataclass(frozen=True, slots=True)
class RecoveredSegment:
    """What became of one unsealed segment of an incarnation that ended without sealing it."""

    segment: str
    """Path below the log's root."""
    rows: int
    """Rows kept, in a sealed segment."""
    dropped_bytes: int
    """Bytes only in quarantine now."""
    problem: str | None
    corrupt: bool
    """True: acknowledged rows may be among the dropped bytes."""


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What `recover` did; empty the second time."""

    segments: tuple[RecoveredSegment, ...] = ()

    @property
    def rows(self) -> int:
        """Rows kept."""
        return sum(segment.rows for segment in self.segments)


def claim_epoch(directory: Path, writer_id: str | None, files: FileLayer) -> EpochClaim:
    """Make a directory that no other writer ever used, and lock it.

    Args:
        directory: Root of the log; made if missing.
        writer_id: None: a new random one.
        files: Where the directories are made.
    """
    writer_id = writer_id or uuid.uuid4().hex
    epoch = max((_epoch_of(path) for path in _epoch_directories(directory)), default=0)
    while True:
        epoch += 1
        path = epoch_directory(directory, writer_id, epoch)
        ensure_directory(path.parent, files)
        # Either directory may vanish at any of these steps: compaction removes empty ones whose lock is free.
        with suppress(FileExistsError, FileNotFoundError):
            files.mkdir(path)
            files.fsync_dir(path.parent)
            # Before the first segment exists, so that recovery never meets a live segment without its lock.
            lock = try_lock(path / _LOCK)
            if lock is None:
                continue  # recovery looks into it just now
            if (path / _LOCK).exists():
                return EpochClaim(writer_id, epoch, lock)
            lock.close()


def list_segments(directory: Path) -> list[Path]:
    """Return every segment that counts, in log order. Temporary and quarantined files do not count.

    While recovery is at work, a segment and its copy may both be there.
    """
    found = []
    for epoch in _epoch_directories(directory):
        for name in _names_in(epoch):
            match = _SEGMENT.fullmatch(name)
            if match:
                found.append((_epoch_of(epoch), epoch.parent.name, int(match[1]), name, epoch / name))
    return [entry[-1] for entry in sorted(found)]


def recover(directory: Path, files: FileLayer) -> RecoveryReport:
    """Seal what incarnations that have ended left unsealed. For start-up; blocks.

    Each such segment's whole batches are copied to a sealed segment; then the original is moved, as found, to
    ``quarantine/``. A crash at any step loses nothing: the copy is durable before the original moves, and the
    next run begins again. Segments of live writers, in this process or others, are left alone.
    """
    report: list[RecoveredSegment] = []
    for epoch in _epoch_directories(directory):
        with _ended(epoch) as ended:
            if ended:
                report += [_recover_segment(directory, path, files) for path in _unsealed(epoch)]
    return RecoveryReport(tuple(report))


def remove_ended_epochs(directory: Path) -> None:
    """Remove the directories of ended incarnations whose segments are all gone, and what a crash left in them.

    The largest epoch stays, so that no later one takes its number. Nothing durable rests on this, and the lock
    files are not of the file layer either, so neither are these changes.
    """
    epochs = _epoch_directories(directory)
    largest = max(map(_epoch_of, epochs), default=0)
    for epoch in epochs:
        with _ended(epoch) as ended, suppress(OSError):
            if not ended:
                continue
            names = _names_in(epoch)
            for name in names:
                if name.endswith(".tmp"):
                    os.unlink(epoch / name)
            if _epoch_of(epoch) < largest and all(name == _LOCK or name.endswith(".tmp") for name in names):
                os.unlink(epoch / _LOCK)
                os.rmdir(epoch)  # fails, as it should, if something came meanwhile
                os.rmdir(epoch.parent)


def list_quarantined(directory: Path) -> list[Path]:
    """Return the originals that recovery has put away."""
    return sorted(directory / QUARANTINE / name for name in _names_in(directory / QUARANTINE))


def recovered_copy(directory: Path, original: Path) -> str | None:
    """Return the name, below the root, of the sealed copy of this quarantined original; None: not one of ours.

    Says nothing about whether the copy is there: an original without a whole batch never had one.
    """
    writer, _, rest = original.name.partition(".")
    epoch, _, segment = rest.partition(".")
    path = directory / writer / epoch / segment
    match = _SEGMENT.fullmatch(segment)
    if match is None or match[2] is not None or _quarantine_path(directory, path).name != original.name:
        return None
    return _recovered_path(path).relative_to(directory).as_posix()


def read_log(
    directory: Path, *, on_problem: Callable[[SegmentReadout], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield every row of the segments once, in log order; of equal event_ids the first. Live writers may go on.

    Rows that compaction has taken into the archive may be missing: `snapshot.open_snapshot` has those too.
    Columns that a segment's older schema lacks are None. Remembers each event_id it has yielded.

    Args:
        directory: Root of the log; need not exist.
        on_problem: Told of each corrupt segment before its readable rows are yielded. A tail is none.

    Raises:
        InternalError: A segment is corrupt and there is no ``on_problem``.
    """
    seen: set[str] = set()
    empty = dict.fromkeys(COLUMN_NAMES)
    for readout in read_segments(directory):
        if readout.corrupt:
            if on_problem is None:
                raise InternalError(
                    f"The log segment {readout.path.name} is corrupt: {readout.problem}. Restore it from a "
                    "copy, or read on with on_problem."
                )
            on_problem(readout)
        for batch in readout.batches:
            for row in batch.data.to_pylist():
                if row["event_id"] not in seen:
                    seen.add(row["event_id"])
                    yield {**empty, **row}


def read_segments(directory: Path, *, newest_first: bool = False) -> Iterator[SegmentReadout]:
    """Yield a readout of every segment, in log order or its reverse. One segment is in memory at a time."""
    paths = list_segments(directory)
    for path in reversed(paths) if newest_first else paths:
        try:
            readout = read_segment(path)
        except FileNotFoundError:
            # Recovered by another process since it was listed: the same bytes lie in quarantine. Or compacted.
            try:
                readout = read_segment(_quarantine_path(directory, path))
            except FileNotFoundError:
                continue
        yield readout


def originals_of(directory: Path, segment: Path) -> tuple[Path, ...]:
    """Return where the original of a recovered copy lies: in place, or in quarantine. Any other segment: nowhere."""
    match = _SEGMENT.fullmatch(segment.name)
    if match is None or match[2] is None:
        return ()
    original = segment.with_name(segment.name.removesuffix(".recovered.arrows") + ".arrows")
    return original, _quarantine_path(directory, original)


def _recover_segment(directory: Path, path: Path, files: FileLayer) -> RecoveredSegment:
    readout = best = read_segment(path)
    copy = _recovered_path(path)
    with suppress(FileNotFoundError):
        # A recovery that was cut short may have copied, and a repeat been acknowledged by, a last batch that a power
        # cut has taken from the original since.
        earlier = read_segment(copy)
        best = earlier if earlier.good_bytes > readout.good_bytes else readout
    if best.rows:
        assert best.writer is not None
        assert best.epoch is not None
        assert best.schema_version is not None
        good = memoryview(best.path.read_bytes())[: best.good_bytes]
        # Byte for byte: the checksums stay those of the first write.
        replace_file(copy, good, files)
        manifest = Manifest(
            segment=copy.name,
            writer=best.writer,
            epoch=best.epoch,
            schema_version=best.schema_version,
            rows=best.rows,
            first_seq=best.batches[0].first_seq,
            last_seq=best.batches[0].first_seq + best.rows - 1,
            size_bytes=len(good),
            sha256=hashlib.sha256(good).hexdigest(),
        )
        write_manifest(copy, manifest, files)
    ensure_directory(directory / QUARANTINE, files)
    files.rename(path, _quarantine_path(directory, path))
    files.fsync_dir(directory / QUARANTINE)
    files.fsync_dir(path.parent)
    return RecoveredSegment(
        segment=path.relative_to(directory).as_posix(),
        rows=best.rows,
        dropped_bytes=readout.size_bytes - readout.good_bytes,
        problem=readout.problem,
        corrupt=readout.corrupt,
    )


def _recovered_path(original: Path) -> Path:
    return original.with_name(original.stem + ".recovered.arrows")


def _quarantine_path(directory: Path, original: Path) -> Path:
    return directory / QUARANTINE / ".".join(original.relative_to(directory).parts)


@contextmanager
def _ended(epoch: Path) -> Iterator[bool]:
    """Whether this incarnation has ended; then it stays so inside: nobody else recovers or removes it."""
    try:
        lock = try_lock(epoch / _LOCK)
    except (FileNotFoundError, NotADirectoryError):  # removed since it was listed
        lock = None
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.close()


def _unsealed(epoch: Path) -> list[Path]:
    originals = [name for name in _names_in(epoch) if (m := _SEGMENT.fullmatch(name)) and m[2] is None]
    return [epoch / name for name in sorted(originals) if not manifest_path(epoch / name).exists()]


def _epoch_directories(directory: Path) -> list[Path]:
    """Every ``writer=*/epoch=<number>``, oldest epoch first."""
    found = [
        directory / writer / name
        for writer in _names_in(directory)
        if writer.startswith("writer=")
        for name in _names_in(directory / writer)
        if name.startswith("epoch=") and name.removeprefix("epoch=").isdecimal()
    ]
    return sorted(found, key=lambda path: (_epoch_of(path), path.parent.name))


def _epoch_of(path: Path) -> int:
    return int(path.name.removeprefix("epoch="))


def _names_in(directory: Path) -> list[str]:
    """What lies in it; nothing where it is gone or no directory: others work here at the same time."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
