"""Finds single rows of the live log: by event_id, and all that was said about an answer.

It follows the segments as they grow, so a row that was acknowledged before a call is found by it, whichever process
wrote it. What it keeps in memory:

- of rows that are not in the archive yet, their ids (`tail_index`);
- the ids that tombstones have erased;
- no text: a row is read from its segment, its checksum checked again, when it is asked for.

Compaction bounds the first. Rows of the archive are found by the statistics of its Parquet files; only their id columns
are searched, and one row group is decoded for each row found. It knows no tenants: callers check whose row it is.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa  # type: ignore[import-untyped]

from deployments.feedback.archive import (
    ArchiveManifest,
    ParquetFile,
    archive_manifest_path,
    lost_file,
    parquet_path,
    read_archive_manifest,
    read_columns,
)
from deployments.feedback.directory import list_segments
from deployments.feedback.erasure import TOMBSTONE_COLUMNS, Erasures
from deployments.feedback.parquet_files import damaged, find_in_parquet
from deployments.feedback.schema import COLUMN_NAMES, SCHEMA_VERSION, is_intact
from deployments.feedback.segment_reader import read_batch
from deployments.feedback.tail_index import SIGNAL_KINDS, FollowedSegment, Index, Place
from graph.errors import InternalError

_ATTEMPTS = 20
Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Found:
    """What the index knew at one moment."""

    manifest: ArchiveManifest
    places: tuple[Place, ...]
    """In log order."""
    damaged: Path | None
    """A segment whose rows are not all known; None: there is none."""


class LogReader:
    """Follows one log; thread safe. Every method blocks; the first call reads all that is not in the archive.

    Each may raise OSError (a file cannot be read) and InternalError (a file is damaged).

    Args:
        root: Of the log; need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        # Guards all below. Rows are read outside it, so that a slow look-up stops no other.
        self._lock = threading.Lock()
        self._segments: dict[Path, FollowedSegment] = {}
        self._manifest = ArchiveManifest(0, (), ())
        self._absorbed: frozenset[str] = frozenset()
        self._mark: object = None
        self._erasures = Erasures()
        self._searched: set[str] = set()
        """Parquet files whose tombstones are known."""

    def event(self, event_id: str) -> Row | None:
        """Return the row of this event_id, every column of the schema; None: there is none, or it was erased."""
        return self._retrying(lambda: self._event(event_id))

    def generation(self, generation_id: str) -> Row | None:
        """Return the row of this generation; None: there is none, or it was erased."""
        row = self.event(generation_id)
        return row if row is not None and row["kind"] == "generation" else None

    def about(self, generation_id: str) -> list[Row]:
        """Return what users, judges and validators said of this generation, retracted or not.

        In order of (ts_server_us, event_id). Rows that name it as the other of two are among them; erased ones
        are not.
        """
        return self._retrying(lambda: self._about(generation_id))

    def ids_about(self, generation_id: str) -> list[str]:
        """Return the event_ids of the generation and of all rows that name it, erased ones too while they are there."""
        return self._retrying(lambda: self._ids_about(generation_id))

    def follow(self) -> None:
        """Take in what was written since the last call, so that the next look-up finds little to do."""
        with self._lock:
            self._refresh()

    def is_erased(self, id: str) -> bool:
        """Whether a tombstone names this event_id or generation_id."""

        def search() -> bool:
            with self._lock:
                self._refresh()
                return id in self._erasures.events or id in self._erasures.generations

        return self._retrying(search)

    def _retrying(self, look_up: Callable[[], T]) -> T:
        for _ in range(_ATTEMPTS):
            try:
                return look_up()
            except FileNotFoundError:
                # Recovered or compacted since it was listed: look where it is now.
                if (lost := lost_file(self._root, read_archive_manifest(self._root))) is not None:
                    raise lost from None
        raise InternalError(f"The log {self._root} changed {_ATTEMPTS} times while it was read; try again.")

    def _event(self, event_id: str) -> Row | None:
        found = self._find(lambda segment: segment.events, event_id)
        for row in self._archived_event(found.manifest.files, event_id):
            return self._visible(row)
        for row in self._read(found.places):
            if row["event_id"] == event_id:
                return self._visible(row)
        if found.damaged is not None:
            raise InternalError(
                f"The segment {found.damaged} is damaged, and the row {event_id!r} may have been in it. Restore it "
                "from a copy."
            )
        return None

    def _about(self, generation_id: str) -> list[Row]:
        found = self._find(lambda segment: segment.mentions, generation_id)
        rows: dict[str, Row] = {}
        for row in (*self._archived_about(found.manifest.files, generation_id), *self._read(found.places)):
            if generation_id in (row["generation_id"], row["other_generation_id"]) and row["kind"] in SIGNAL_KINDS:
                rows.setdefault(row["event_id"], row)
        visible = [row for row in rows.values() if self._visible(row) is not None]
        return sorted(visible, key=lambda row: (row["ts_server_us"], row["event_id"]))

    def _ids_about(self, generation_id: str) -> list[str]:
        found = self._find(lambda segment: segment.mentions, generation_id)
        rows = (*self._archived_about(found.manifest.files, generation_id), *self._read(found.places))
        named = [row["event_id"] for row in rows if generation_id in (row["generation_id"], row["other_generation_id"])]
        return sorted({generation_id, *named})

    def _visible(self, row: Row) -> Row | None:
        with self._lock:
            return None if self._erasures.covers(row) else row

    def _find(self, index: Callable[[FollowedSegment], Index], id: str) -> _Found:
        with self._lock:
            self._refresh()
            places = [segment.place(at) for segment in self._segments.values() for at in index(segment).positions(id)]
            damaged = next((path for path, segment in self._segments.items() if segment.damaged), None)
            return _Found(self._manifest, tuple(places), damaged)

    def _refresh(self) -> None:
        """Take in what was written, sealed and compacted since the last call; cheap if nothing was."""
        while True:
            mark = _mark_of(archive_manifest_path(self._root))
            if mark != self._mark:
                self._take_manifest()
                self._mark = mark
            listed = list_segments(self._root)
            if _mark_of(archive_manifest_path(self._root)) == mark:
                break  # else what it has just absorbed may be gone from the list already
        segments = {}
        for path in listed:
            if path.relative_to(self._root).as_posix() not in self._absorbed:
                segments[path] = self._segments.get(path) or FollowedSegment(path)
        self._segments = segments
        for segment in segments.values():
            segment.follow(self._erasures)

    def _take_manifest(self) -> None:
        manifest = read_archive_manifest(self._root)
        for file in manifest.files:
            if file.name not in self._searched:
                self._erasures.add(read_columns(self._root, file, TOMBSTONE_COLUMNS))
                self._searched.add(file.name)
        self._searched = {file.name for file in manifest.files}
        self._absorbed = frozenset(manifest.segments)
        self._manifest = manifest

    def _read(self, places: Sequence[Place]) -> Iterator[Row]:
        last: tuple[Path, int] | None = None
        batch: pa.RecordBatch | None = None
        for place in places:
            if (place.path, place.start_byte) != last:
                batch = read_batch(place.path, place.head, place.start_byte, place.size_bytes)
                last = (place.path, place.start_byte)
            if batch is None:
                raise InternalError(
                    f"The segment {place.path} has changed since it was read, at byte {place.start_byte}: it is "
                    "damaged. Restore it from a copy."
                )
            yield _known_columns(batch.slice(place.row, 1).to_pylist()[0])

    def _archived_event(self, files: Sequence[ParquetFile], event_id: str) -> Iterator[Row]:
        for file in files:
            if file.min_event_id <= event_id <= file.max_event_id:
                yield from _rows_of(self._root, file, ["event_id"], event_id)

    def _archived_about(self, files: Sequence[ParquetFile], generation_id: str) -> Iterator[Row]:
        for file in files:
            yield from _rows_of(self._root, file, ["generation_id", "other_generation_id"], generation_id)


def _rows_of(root: Path, file: ParquetFile, columns: Sequence[str], id: str) -> Iterator[Row]:
    for table in find_in_parquet(parquet_path(root, file), columns, id):
        for row in map(_known_columns, table.to_pylist()):
            # Of a later version not all that its CRC covers is known here.
            version = row["schema_version"]
            if version is None or (version <= SCHEMA_VERSION and not is_intact(row)):
                raise damaged(parquet_path(root, file), f"the row {row['event_id']} is not as it was written")
            yield row


def _known_columns(row: Row) -> Row:
    return {name: row.get(name) for name in COLUMN_NAMES}


def _mark_of(path: Path) -> object:
    """Something that changes when another file is renamed to this path; None: there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
