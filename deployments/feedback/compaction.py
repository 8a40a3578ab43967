"""Moves sealed segments into the archive: each row once, erased rows gone for good.

    python -m deployments.feedback.compaction --log data/log [--json OUT]

One transaction a chunk of segments: new Parquet files become durable, then the manifest that names them, then what
they replace is removed. A crash at any step leaves the old manifest or the new one valid, with every row in it or
in a segment; the next run removes the leftovers. Doing a step twice does no harm, because rows are dropped by their
event_id and tombstones are kept for ever.

It never reads an unsealed segment; recovery, which seals what dead writers left, runs first. It does not know what
rows mean, but for tombstones. The FeedbackLog deployment runs it in a process of its own.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from deployments.feedback.archive import (
    ArchiveManifest,
    ParquetFile,
    archive_directory,
    check_parquet,
    held_by_archive,
    lost_file,
    parquet_path,
    read_archive_manifest,
    read_columns,
    write_archive_manifest,
    write_parquet,
)
from deployments.feedback.chore_report import print_report
from deployments.feedback.directory import list_segments, recover, remove_ended_epochs
from deployments.feedback.erasure import TOMBSTONE_COLUMNS, Erasures
from deployments.feedback.files import FileLayer, LocalFiles, ensure_directory, try_lock
from deployments.feedback.leftovers import Leftovers
from deployments.feedback.parquet_files import damaged, uncompressed_bytes
from deployments.feedback.schema import SCHEMA_VERSION
from deployments.feedback.segment_format import manifest_path
from deployments.feedback.segment_reader import SegmentReadout, read_segment
from graph.errors import InternalError

LOCK = "compaction.lock"
MAX_SMALL_FILES = 8
"""More files than this below a quarter of the limits are merged."""
_ID_COLUMNS = ["event_id", "kind", "generation_id", "other_generation_id", "name", "supersedes"]
BUSY_EXIT = 3


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """What one run did. ``rows_in == rows_written + duplicates + erased - erased_archived``."""

    segments: int = 0
    """Absorbed."""
    rows_in: int = 0
    """In those segments."""
    rows_written: int = 0
    """Of those, new in the archive."""
    duplicates: int = 0
    """Of those, dropped: the archive or an earlier one of them has their event_id."""
    erased: int = 0
    """Rows erased by tombstones, in these segments and in the archive."""
    erased_archived: int = 0
    """Of those, in the archive."""
    merged_files: int = 0
    """Small files of the archive that were put together."""
    files: int = 0
    """Of the archive now."""
    rows: int = 0
    """Of the archive now."""
    version: int = 0
    """Of the archive's manifest now; the same as before if nothing was to be done."""
    problems: tuple[str, ...] = ()
    """What was left where it is and needs a person, in words."""
    took_s: float = 0.0
    busy: bool = False
    """Another compaction of this log is at work; nothing was done."""


def compact(
    root: Path,
    files: FileLayer | None = None,
    *,
    max_file_rows: int = 250_000,
    max_file_bytes: int = 256 << 20,
) -> CompactionReport:
    """Absorb all sealed segments; blocks; needs about four times ``max_file_bytes`` of memory.

    Args:
        root: Of the log; need not exist.
        files: Where changes go; None: the real file system.
        max_file_rows: Of one Parquet file.
        max_file_bytes: Of one Parquet file's rows before compression; at most 1 GiB. A larger segment is one chunk.

    Raises:
        InternalError: The archive is damaged. Segments that were not absorbed before it was found stay.
        OSError: The disk is full, or fails. The archive is as it was after the last finished chunk.
    """
    if not (max_file_rows >= 1 and 1 <= max_file_bytes <= 1 << 30):
        raise ValueError(f"max_file_rows {max_file_rows} or max_file_bytes {max_file_bytes} is out of range")
    began_s = time.monotonic()
    if not root.is_dir():
        return CompactionReport()
    files = files or LocalFiles()
    ensure_directory(archive_directory(root), files)
    lock = try_lock(archive_directory(root) / LOCK)
    if lock is None:
        return CompactionReport(busy=True)
    try:
        report = _Compaction(root, files, max_file_rows, max_file_bytes).run()
    finally:
        lock.close()
    return replace(report, took_s=time.monotonic() - began_s)


class _Compaction:
    """One run, under the lock."""

    def __init__(self, root: Path, files: FileLayer, max_file_rows: int, max_file_bytes: int) -> None:
        self._root = root
        self._files = files
        self._max_rows = max_file_rows
        self._max_bytes = max_file_bytes
        self._manifest = read_archive_manifest(root)
        self._leftovers = Leftovers(root, files)
        self._report = CompactionReport()
        self._problems: list[str] = []
        self._erasures: Erasures | None = None
        self._raw: dict[str, int] = {}

    def run(self) -> CompactionReport:
        if (lost := lost_file(self._root, self._manifest)) is not None:
            raise lost
        recover(self._root, self._files)
        self._leftovers.sweep(self._manifest)
        try:
            for chunk in self._chunks():
                self._absorb(chunk)
            self._merge()
        except OSError:
            # What was written for a manifest that never came would fill the disk still more. But it may have come:
            # its rename can be done although the sync after it has failed. Then neither one is sure to last.
            with suppress(OSError, InternalError):
                self._leftovers.remove_unreferenced(self._manifest, read_archive_manifest(self._root))
            raise
        self._problems += self._leftovers.sweep_quarantine(self._manifest)
        remove_ended_epochs(self._root)
        return replace(
            self._report,
            files=len(self._manifest.files),
            rows=self._manifest.rows,
            version=self._manifest.version,
            problems=tuple(self._problems),
        )

    def _chunks(self) -> Iterator[list[SegmentReadout]]:
        """Whole sealed segments in log order, so many as one file may hold. One more is in memory, to look ahead."""
        chunk: list[SegmentReadout] = []
        for path in self._pending():
            readout = read_segment(path)
            if not self._usable(readout):
                continue
            rows = sum(one.rows for one in chunk) + readout.rows
            size_bytes = sum(one.size_bytes for one in chunk) + readout.size_bytes
            if chunk and (rows > self._max_rows or size_bytes > self._max_bytes):
                yield chunk
                chunk = []
            chunk.append(readout)
        if chunk:
            yield chunk

    def _pending(self) -> list[Path]:
        absorbed = set(self._manifest.segments)
        return [
            path
            for path in list_segments(self._root)
            if self._name(path) not in absorbed and manifest_path(path).exists()
        ]

    def _usable(self, readout: SegmentReadout) -> bool:
        name = self._name(readout.path)
        if readout.corrupt:
            self._problems.append(
                f"The sealed segment {name} is corrupt ({readout.problem}) and stays as it is; its {readout.rows} "
                "whole rows are still read. Restore it from a copy."
            )
        elif readout.newer:
            self._problems.append(
                f"The segment {name} is of version {readout.schema_version} of the table, this one knows "
                f"{SCHEMA_VERSION}; it stays as it is. Upgrade."
            )
        return not readout.corrupt and not readout.newer

    def _absorb(self, chunk: Sequence[SegmentReadout]) -> None:
        rows = pa.concat_tables([readout.table() for readout in chunk])
        # What is decided on the ids needs only them; the texts are copied once, when they are written.
        firsts = _first_positions(rows.column("event_id"))
        ids = rows.select(_ID_COLUMNS).take(firsts)
        new = pc.invert(held_by_archive(self._root, self._manifest.files, ids.column("event_id")))
        ids, firsts = ids.filter(new), firsts.filter(new.combine_chunks())
        duplicates = rows.num_rows - len(firsts)
        fresh = Erasures()
        fresh.add(ids)
        known = self._known_erasures()
        known.update(fresh)
        kept_rows = firsts.filter(pc.invert(known.mask(ids)).combine_chunks())
        names = _names(self._manifest.version + 1)
        # Older tombstones have been applied to the archive when they came, and to each row since.
        kept, rewritten, gone = self._rewrite(fresh, names)
        written = [
            write_parquet(self._root, next(names), rows.take(kept_rows[at : at + self._max_rows]), self._files)
            for at in range(0, len(kept_rows), self._max_rows)
        ]
        absorbed = [readout.path for readout in chunk]
        self._commit((*kept, *rewritten, *written), absorbed)
        self._leftovers.remove([parquet_path(self._root, file) for file in gone])
        self._leftovers.remove_segments(absorbed)
        erased_archived = sum(file.rows for file in gone) - sum(file.rows for file in rewritten)
        erased_new = len(firsts) - len(kept_rows)
        report = self._report
        self._report = replace(
            report,
            segments=report.segments + len(chunk),
            rows_in=report.rows_in + rows.num_rows,
            rows_written=report.rows_written + len(kept_rows),
            duplicates=report.duplicates + duplicates,
            erased=report.erased + erased_new + erased_archived,
            erased_archived=report.erased_archived + erased_archived,
        )

    def _rewrite(
        self, fresh: Erasures, names: Iterator[str]
    ) -> tuple[list[ParquetFile], list[ParquetFile], list[ParquetFile]]:
        """(files that hold nothing erased, files written without it, files to remove)."""
        kept, rewritten, gone = [], [], []
        for file in self._manifest.files:
            if not fresh or not pc.any(fresh.mask(read_columns(self._root, file, _ID_COLUMNS))).as_py():
                kept.append(file)
                continue
            rows = self._read(file)
            rows = rows.filter(pc.invert(fresh.mask(rows)))
            if rows.num_rows:
                rewritten.append(write_parquet(self._root, next(names), rows, self._files))
            gone.append(file)
        return kept, rewritten, gone

    def _merge(self) -> None:
        """Put small files together, in order of their event_ids, if there are many."""
        small = [file for file in self._manifest.files if self._is_small(file)]
        if len(small) <= MAX_SMALL_FILES:
            return
        names = _names(self._manifest.version + 1)
        small.sort(key=lambda file: file.min_event_id)
        merged: set[str] = set()
        written = []
        for group in self._groups(small):
            # An older file may lack columns: they become null.
            rows = pa.concat_tables([self._read(file) for file in group], promote_options="default")
            rows = rows.sort_by("event_id")
            written.append(write_parquet(self._root, next(names), rows, self._files))
            merged |= {file.name for file in group}
        if not written:
            return
        self._commit((*(file for file in self._manifest.files if file.name not in merged), *written), [])
        # The merged ones stay until the next run: a reader may just have opened a snapshot of them.
        self._report = replace(self._report, merged_files=self._report.merged_files + len(merged))

    def _groups(self, small: Iterable[ParquetFile]) -> Iterator[list[ParquetFile]]:
        """So many as one file may hold; never one alone."""
        group: list[ParquetFile] = []
        rows = size_bytes = 0
        for file in small:
            file_bytes = self._raw_bytes(file)
            if group and (rows + file.rows > self._max_rows or size_bytes + file_bytes > self._max_bytes):
                if len(group) > 1:
                    yield group
                group, rows, size_bytes = [], 0, 0
            group.append(file)
            rows, size_bytes = rows + file.rows, size_bytes + file_bytes
        if len(group) > 1:
            yield group

    def _is_small(self, file: ParquetFile) -> bool:
        return 4 * file.rows < self._max_rows and 4 * self._raw_bytes(file) < self._max_bytes

    def _commit(self, files: Sequence[ParquetFile], absorbed: Sequence[Path]) -> None:
        manifest = ArchiveManifest(
            version=self._manifest.version + 1,
            files=tuple(sorted(files, key=lambda file: file.min_event_id)),
            segments=(*filter(self._leftovers.lingers, self._manifest.segments), *map(self._name, absorbed)),
        )
        write_archive_manifest(self._root, manifest, self._files)
        self._manifest = manifest

    def _known_erasures(self) -> Erasures:
        if self._erasures is None:
            self._erasures = Erasures()
            for file in self._manifest.files:
                self._erasures.add(read_columns(self._root, file, TOMBSTONE_COLUMNS))
        return self._erasures

    def _read(self, file: ParquetFile) -> pa.Table:
        """The whole file, checked: what is written anew must not give damage a right checksum."""
        problem = check_parquet(self._root, file)
        if problem is not None:
            raise damaged(parquet_path(self._root, file), problem)
        return read_columns(self._root, file, None)

    def _raw_bytes(self, file: ParquetFile) -> int:
        if file.name not in self._raw:
            self._raw[file.name] = uncompressed_bytes(parquet_path(self._root, file))
        return self._raw[file.name]

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def _first_positions(ids: pa.ChunkedArray) -> pa.Array:
    """Where each value comes first; in order of the values."""
    order = pc.sort_indices(ids)  # stable
    ordered = ids.take(order).combine_chunks()
    differs = np.concatenate([[True], pc.not_equal(ordered[1:], ordered[:-1]).to_numpy(zero_copy_only=False)])
    return order.filter(pa.array(differs))


def _names(version: int) -> Iterator[str]:
    return (f"events-{version}-{number}.parquet" for number in count())


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 1 (failed) or 3 (another one is at work)."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.feedback.compaction", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--log", type=Path, required=True, metavar="DIR", help="root of the log, such as data/log")
    parser.add_argument("--json", metavar="OUT", help="write the report there as JSON; - is the standard output")
    options = parser.parse_args(argv)
    try:
        report = compact(options.log)
    except OSError as error:
        print(
            f"The log {options.log} was not compacted: {error}. Nothing is lost; the archive is as it was after its "
            "last finished step. Run it again when the disk is well.",
            file=sys.stderr,
        )
        return 1
    except InternalError as error:
        print(error.message, file=sys.stderr)
        return 1
    print_report("compaction", report, options.json)
    return BUSY_EXIT if report.busy else 0


if __name__ == "__main__":
    sys.exit(main())
