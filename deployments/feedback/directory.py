"""The log as a directory of segments: who may write where, what a crash left, and all rows in order.

    ROOT/writer=<id>/epoch=<n>/writer.lock                   held while that incarnation lives
                               seg-000000.arrows             a segment; alone: unsealed
                               seg-000000.manifest.json      ... sealed
                               seg-000000.recovered.arrows   the whole batches of a segment that a crash left
    ROOT/quarantine/                                         the originals of the latter, as found

An epoch is larger than any epoch of the log when it was claimed, so (epoch, writer, number) orders segments
without trusting a clock: incarnations that did not overlap are in their true order.
"""

import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterator
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
    ensure_directory(directory / f"writer={writer_id}", files)
    epoch = max((_epoch_of(path) for path in _epoch_directories(directory)), default=0)
    while True:
        epoch += 1
        path = epoch_directory(directory, writer_id, epoch)
        try:
            files.mkdir(path)
        except FileExistsError:
            continue
        files.fsync_dir(path.parent)
        # Before the first segment exists, so that recovery never meets a live segment without its lock.
        lock = try_lock(path / _LOCK)
        if lock is not None:  # None: recovery looks into it just now; take the next one
            return EpochClaim(writer_id, epoch, lock)


def list_segments(directory: Path) -> list[Path]:
    """Return every segment that counts, in log order. Temporary and quarantined files do not count.

    While recovery is at work, a segment and its copy may both be there.
    """
    found = []
    for epoch in _epoch_directories(directory):
        for path in epoch.iterdir():
            match = _SEGMENT.fullmatch(path.name)
            if match:
                found.append((_epoch_of(epoch), epoch.parent.name, int(match[1]), path.name, path))
    return [entry[-1] for entry in sorted(found)]


def recover(directory: Path, files: FileLayer) -> RecoveryReport:
    """Seal what incarnations that have ended left unsealed. For start-up; blocks.

    Each such segment's whole batches are copied to a sealed segment; then the original is moved, as found, to
    ``quarantine/``. A crash at any step loses nothing: the copy is durable before the original moves, and the
    next run begins again. Segments of live writers, in this process or others, are left alone.
    """
    report: list[RecoveredSegment] = []
    for epoch in _epoch_directories(directory):
        lock = try_lock(epoch / _LOCK)
        if lock is None:
            continue
        try:
            report += [_recover_segment(directory, path, files) for path in _unsealed(epoch)]
        finally:
            lock.close()
    return RecoveryReport(tuple(report))


def read_log(
    directory: Path, *, on_problem: Callable[[SegmentReadout], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield every row once, in log order; of equal event_ids the first. Live writers may go on meanwhile.

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
            # Recovered by another process since it was listed: the same bytes lie in quarantine.
            readout = read_segment(_quarantine_path(directory, path))
        yield readout


def _recover_segment(directory: Path, path: Path, files: FileLayer) -> RecoveredSegment:
    readout = read_segment(path)
    if readout.rows:
        assert readout.writer is not None
        assert readout.epoch is not None
        assert readout.schema_version is not None
        good = memoryview(path.read_bytes())[: readout.good_bytes]
        copy = _recovered_path(path)
        # Byte for byte: the checksums stay those of the first write.
        replace_file(copy, good, files)
        manifest = Manifest(
            segment=copy.name,
            writer=readout.writer,
            epoch=readout.epoch,
            schema_version=readout.schema_version,
            rows=readout.rows,
            first_seq=readout.batches[0].first_seq,
            last_seq=readout.batches[0].first_seq + readout.rows - 1,
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
        rows=readout.rows,
        dropped_bytes=readout.size_bytes - readout.good_bytes,
        problem=readout.problem,
        corrupt=readout.corrupt,
    )


def _recovered_path(original: Path) -> Path:
    return original.with_name(original.stem + ".recovered.arrows")


def _quarantine_path(directory: Path, original: Path) -> Path:
    return directory / QUARANTINE / ".".join(original.relative_to(directory).parts)


def _unsealed(epoch: Path) -> list[Path]:
    originals = [path for path in epoch.iterdir() if (m := _SEGMENT.fullmatch(path.name)) and m[2] is None]
    return sorted(path for path in originals if not manifest_path(path).exists())


def _epoch_directories(directory: Path) -> list[Path]:
    """Every ``writer=*/epoch=<number>``, oldest epoch first."""
    found = [
        path
        for path in directory.glob("writer=*/epoch=*")
        if path.name.removeprefix("epoch=").isdecimal() and os.path.isdir(path)
    ]
    return sorted(found, key=lambda path: (_epoch_of(path), path.parent.name))


def _epoch_of(path: Path) -> int:
    return int(path.name.removeprefix("epoch="))
