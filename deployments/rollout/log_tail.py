"""Follows the feedback log from a moment on: what was written since the last call, for whoever watches live traffic.

The first call reads what the archive and the segments hold since that moment, later ones only new bytes. Rows may come
twice (a recovered segment repeats its original) and out of order; who counts must not mind. Nothing is kept of them.
If compaction took rows away before they were read, the tail begins again and says so.

Blocks; not thread safe. `lookup.LogReader` answers for single rows, `snapshot` for all of them.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from deployments.feedback.archive import ArchiveManifest, archive_manifest_path, parquet_path, read_archive_manifest
from deployments.feedback.directory import list_segments
from deployments.feedback.parquet_files import open_parquet
from deployments.feedback.segment_format import manifest_path
from deployments.feedback.segment_reader import SegmentCursor, conform, read_on
from graph.errors import InternalError

_ATTEMPTS = 20
_TIME = "ts_server_us"


@dataclass(frozen=True, slots=True)
class NewRows:
    """What one call found."""

    rows: list[dict[str, Any]]
    restarted: bool
    """True: these are all rows since the beginning, again; forget the earlier ones. The first call says it too."""


@dataclass(slots=True)
class _Followed:
    cursor: SegmentCursor
    final: bool = False
    """It was sealed, and all of it was read."""


class LogTail:
    """One reader's place in a log.

    Args:
        root: Of the log; need not exist yet.
        since_us: Rows with an earlier ``ts_server_us`` are left out.
        kinds: The only kinds that are read.
        columns: The only columns that come.
    """

    def __init__(self, root: Path, since_us: int, kinds: Sequence[str], columns: Sequence[str]) -> None:
        self._root = root
        self._since_us = since_us
        self._kinds = pa.array(kinds, pa.string())
        self._columns = list(columns)
        self._manifest: ArchiveManifest | None = None
        self._mark: object = None
        self._segments: dict[str, _Followed] = {}

    def read(self) -> NewRows:
        """Return the rows that were written since the last call.

        Raises:
            InternalError: The archive is damaged, or compactions end faster than it can be read.
            OSError: A file cannot be read.
        """
        restarted = self._manifest is None
        rows: list[dict[str, Any]] = []
        for _ in range(_ATTEMPTS):
            try:
                mark, manifest, listed = self._look()
                if self._manifest is None or not self._holds_all_of(manifest):
                    # Forgotten first: if the archive changes while it is read, it must be read again.
                    restarted, rows, self._segments, self._manifest = True, [], {}, None
                    rows += self._archived(manifest)
                self._manifest, self._mark = manifest, mark
                for name, path in listed.items():
                    rows += self._follow(name, path)
            except FileNotFoundError:
                # Recovered or compacted while it was read: all that was read stays good, and the rest is elsewhere now.
                continue
            self._segments = {name: self._segments[name] for name in listed}
            return NewRows(rows, restarted)
        self._manifest = None
        raise InternalError(f"The log {self._root} changed {_ATTEMPTS} times while it was read; try again.")

    def _look(self) -> tuple[object, ArchiveManifest, dict[str, Path]]:
        """The archive's manifest and the segments that it has not absorbed, of one moment."""
        while True:
            mark = file_mark(archive_manifest_path(self._root))
            unchanged = self._manifest is not None and mark == self._mark
            manifest = self._manifest if unchanged and self._manifest else read_archive_manifest(self._root)
            absorbed = set(manifest.segments)
            listed = {path.relative_to(self._root).as_posix(): path for path in list_segments(self._root)}
            if file_mark(archive_manifest_path(self._root)) == mark:
                return mark, manifest, {name: path for name, path in listed.items() if name not in absorbed}

    def _holds_all_of(self, manifest: ArchiveManifest) -> bool:
        """Whether every row of the segments that were absorbed since the last call has been read."""
        assert self._manifest is not None
        if manifest.version == self._manifest.version:
            return True
        if manifest.version != self._manifest.version + 1:
            return False  # a manifest names what was absorbed last, so the one that was missed named others
        new = set(manifest.segments) - set(self._manifest.segments)
        return all(name in self._segments and self._segments[name].final for name in new)

    def _follow(self, name: str, path: Path) -> list[dict[str, Any]]:
        segment = self._segments.setdefault(name, _Followed(SegmentCursor(path)))
        if segment.final:
            return []
        sealed = manifest_path(path).exists()
        rows: list[dict[str, Any]] = []
        while path.stat().st_size > segment.cursor.offset:
            segment.cursor, batches = read_on(segment.cursor)
            if not batches:
                break
            rows += self._wanted(conform(pa.Table.from_batches([batch.data for batch in batches])))
        # What a damaged one does not give, it never will.
        segment.final = sealed
        return rows

    def _archived(self, manifest: ArchiveManifest) -> Iterator[dict[str, Any]]:
        for file in manifest.files:
            with open_parquet(parquet_path(self._root, file)) as parquet:
                asked = dict.fromkeys((*self._columns, "kind", _TIME))
                known = [name for name in asked if name in parquet.schema_arrow.names]
                for group in range(parquet.num_row_groups):
                    if self._may_hold(parquet.metadata, group):
                        table = parquet.read_row_group(group, columns=known)
                        for name in self._columns:
                            if name not in known:
                                table = table.append_column(name, pa.nulls(table.num_rows))
                        yield from self._wanted(table)

    def _may_hold(self, metadata: Any, group: int) -> bool:
        statistics = metadata.row_group(group).column(metadata.schema.names.index(_TIME)).statistics
        return statistics is None or not statistics.has_min_max or bool(statistics.max >= self._since_us)

    def _wanted(self, table: pa.Table) -> list[dict[str, Any]]:
        wanted = pc.and_(
            pc.greater_equal(table.column(_TIME), self._since_us), pc.is_in(table.column("kind"), self._kinds)
        )
        rows: list[dict[str, Any]] = table.select(self._columns).filter(wanted).to_pylist()
        return rows


def file_mark(path: Path) -> object:
    """Return something that changes when another file is renamed to this path; None: there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
