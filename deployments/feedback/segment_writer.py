"""Writes the segments of one writer's incarnation, and says when one is full. See `segment_format`."""

import hashlib
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]

from deployments.feedback.files import FileLayer, ensure_directory, write_all
from deployments.feedback.schema import SCHEMA_VERSION
from deployments.feedback.segment_format import (
    SEGMENT_SUFFIX,
    Manifest,
    encode_batch,
    encode_head,
    epoch_directory,
    write_manifest,
)

_WRITER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """What the rotation decision looks at."""

    rows: int
    size_bytes: int
    opened_at_s: float


@dataclass(frozen=True, slots=True)
class RotationLimits:
    """When a segment is full. Reaching any one is enough."""

    max_bytes: int = 64 * 2**20
    """A segment is read whole into memory."""
    max_rows: int = 100_000
    max_age_s: float = 300.0
    """Bounds how long analysis and training wait for a row."""


def should_rotate(facts: SegmentFacts, limits: RotationLimits, now_s: float) -> bool:
    """Return whether to seal this segment. An empty one is never sealed: there is nothing to keep."""
    return facts.rows > 0 and (
        facts.size_bytes >= limits.max_bytes
        or facts.rows >= limits.max_rows
        or now_s - facts.opened_at_s >= limits.max_age_s
    )


class SegmentWriter:
    """Writes the segments of one writer's incarnation, one after the other: ``seg-000000.arrows``, ...

    A file is created at the first append after construction or `seal`, so idle writers leave no empty files.
    Sequences run on across segments. After any OSError it refuses all further work: Linux marks the pages of
    a failed sync as clean, so a second fdatasync would lie ("Can Applications Recover from fsync Failures?",
    USENIX ATC 2020). Not safe for concurrent use. Every method blocks.

    Args:
        directory: Root of the log.
        writer_id: 1-64 of ``A-Z a-z 0-9 _ -``.
        epoch: Incarnation of this writer; a pair (writer_id, epoch) is used once (`claim_epoch` sees to it).
        files: Where writes go.
    """

    def __init__(self, directory: Path, writer_id: str, epoch: int, files: FileLayer) -> None:
        if not _WRITER_ID.fullmatch(writer_id):
            raise ValueError(f"writer_id {writer_id!r} must be 1-64 of A-Z a-z 0-9 _ -")
        self.writer_id = writer_id
        self.epoch = epoch
        self.directory = epoch_directory(directory, writer_id, epoch)
        self._root = directory
        self._files = files
        self._fd: int | None = None
        self._broken = False
        self._number = -1
        self._next_seq = 0
        self._first_seq = 0
        self._head_crc = 0
        self._sha256 = hashlib.sha256()
        self.rows = 0
        """Rows in the open segment."""
        self.size_bytes = 0
        """Size of the open segment."""
        self.path = self.directory
        """The segment of the latest append."""
        self.name = ""
        """`path` below the log's root, for acknowledgements."""
        ensure_directory(self.directory, files)

    def append(self, batch: pa.RecordBatch) -> int:
        """Write one batch of whole rows (`schema.to_batch`) and return the sequence of its first.

        Not durable before `sync`.
        """
        with self._work():
            if self._fd is None:
                self._open()
            first_seq = self._next_seq
            message = encode_batch(batch, self.writer_id, first_seq, self._head_crc)
            self._write(message)
        self._next_seq += batch.num_rows
        self.rows += batch.num_rows
        return first_seq

    def sync(self) -> None:
        """Return when all that was appended survives a power cut."""
        with self._work():
            if self._fd is not None:
                self._files.fdatasync(self._fd)

    def seal(self) -> Manifest | None:
        """Make the open segment final: sync it, rename its manifest into place. None: there was nothing open."""
        if self._fd is None:
            return None
        with self._work():
            self._files.fdatasync(self._fd)
            self._close_file()
            manifest = Manifest(
                segment=self.path.name,
                writer=self.writer_id,
                epoch=self.epoch,
                schema_version=SCHEMA_VERSION,
                rows=self.rows,
                first_seq=self._first_seq,
                last_seq=self._next_seq - 1,
                size_bytes=self.size_bytes,
                sha256=self._sha256.hexdigest(),
            )
            write_manifest(self.path, manifest, self._files)
        self.rows = self.size_bytes = 0
        return manifest

    def close(self) -> None:
        """Let go of an open segment without sealing it: recovery will. Again: nothing."""
        self._broken = True
        if self._fd is not None:
            self._close_file()

    @contextmanager
    def _work(self) -> Iterator[None]:
        if self._broken:
            raise OSError(f"{self.path} failed or was closed before; open a new epoch")
        try:
            yield
        except BaseException:
            self._broken = True
            raise

    def _open(self) -> None:
        self._number += 1
        self.path = self.directory / f"seg-{self._number:06d}{SEGMENT_SUFFIX}"
        self.name = self.path.relative_to(self._root).as_posix()
        self._fd = self._files.create(self.path, exclusive=True)
        self._first_seq = self._next_seq
        self._sha256 = hashlib.sha256()
        self.rows = self.size_bytes = 0
        head = encode_head(self.writer_id, self.epoch, self._number, self._first_seq)
        self._head_crc = zlib.crc32(head)
        self._write(head)
        # Once for each segment: a head is durable before any batch, so a damaged one is never a torn write.
        self._files.fdatasync(self._fd)
        self._files.fsync_dir(self.directory)

    def _write(self, data: bytes | bytearray) -> None:
        assert self._fd is not None
        write_all(self._files, self._fd, data)
        self._sha256.update(data)
        self.size_bytes += len(data)

    def _close_file(self) -> None:
        assert self._fd is not None
        fd, self._fd = self._fd, None
        self._files.close(fd)
