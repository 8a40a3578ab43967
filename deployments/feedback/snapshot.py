"""A consistent view of the whole log: the archive's Parquet files, and the rows that are not in them yet.

Writers and compaction go on meanwhile. It does not know what rows mean: tombstones are ordinary rows here, and
rows that they name may still be there, so readers hide them. The analysis, the trainer and tests open it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from deployments.feedback.archive import (
    ArchiveManifest,
    check_parquet,
    held_by_archive,
    lost_file,
    parquet_path,
    read_archive_manifest,
)
from deployments.feedback.directory import list_quarantined, list_segments
from deployments.feedback.parquet_files import damaged
from deployments.feedback.schema import ARROW_SCHEMA, SCHEMA_VERSION
from deployments.feedback.segment_reader import read_segment
from graph.errors import InternalError

_HASHERS = 2
_ATTEMPTS = 20
"""Each is lost only to a compaction or recovery that ends while the log is read."""


@dataclass(frozen=True, slots=True)
class Integrity:
    """Counts for whoever must know whether to trust the rows."""

    segments: int
    """Not absorbed by the archive."""
    unsealed: int
    """Of those, still open or left open by a crash."""
    tail_rows: int
    duplicates: int
    """Rows of segments that were left out: an earlier row has their event_id."""
    corrupt: int
    """Segments that may have lost acknowledged rows."""
    quarantined: int
    """Originals that recovery has put away."""
    newer: int
    """Segments of a later version of the table; only the columns known here are read."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the log held at one moment. The Parquet files and ``tail`` share no event_id.

    A Parquet file stays for one more compaction after it was replaced, unless a row of it was erased. Who meets
    FileNotFoundError on one opens a new snapshot.
    """

    root: Path
    parquet: tuple[Path, ...]
    tail: pa.Table
    """`ARROW_SCHEMA`: every verified row of segments that are not absorbed, in log order; first written wins."""
    integrity: Integrity
    problems: tuple[str, ...]
    """Each corrupt or newer segment, in words."""


def open_snapshot(root: Path) -> Snapshot:
    """Read the log; blocks; holds the tail in memory, and one segment besides. ``root`` need not exist.

    Raises:
        InternalError: The archive is damaged, or compactions end faster than the log can be read.
        OSError: A file cannot be read.
    """
    sealed: dict[Path, _SegmentRows] = {}
    for _ in range(_ATTEMPTS):
        manifest = read_archive_manifest(root)
        absorbed = set(manifest.segments)
        paths = [path for path in list_segments(root) if path.relative_to(root).as_posix() not in absorbed]
        if read_archive_manifest(root).version != manifest.version:
            continue  # what it has just absorbed may be gone from the list already
        try:
            segments = []
            for path in paths:
                # A sealed segment never changes, so a new attempt need not read it again.
                segment = sealed.get(path) or _read_rows(root, path)
                if segment.sealed:
                    sealed[path] = segment
                segments.append(segment)
            _check_archive(root, manifest)
            found = _make_snapshot(root, manifest, segments)
        except FileNotFoundError:
            found = None  # recovered or compacted since it was listed
        if (lost := lost_file(root, manifest)) is not None:
            raise lost
        if found is not None and all(path.exists() for path in found.parquet):
            return found
    raise InternalError(f"The log {root} changed {_ATTEMPTS} times while it was read; try again.")


@dataclass(slots=True)
class _SegmentRows:
    """What one segment holds. Not frozen: its rows are let go as soon as they are replaced by fewer."""

    sealed: bool
    corrupt: bool
    newer: bool
    problems: tuple[str, ...]
    rows: pa.Table


def _read_rows(root: Path, path: Path) -> _SegmentRows:
    readout = read_segment(path)
    name = path.relative_to(root).as_posix()
    problems = []
    if readout.corrupt:
        problems.append(f"The segment {name} is corrupt: {readout.problem}. {readout.rows} rows of it were read.")
    if readout.newer:
        problems.append(
            f"The segment {name} is of version {readout.schema_version} of the table and this one knows "
            f"{SCHEMA_VERSION}: columns that came later are not shown. Upgrade."
        )
    try:
        rows = readout.table().combine_chunks()
    except ValueError as error:
        problems.append(f"The {readout.rows} rows of the segment {name} cannot be read: {error}. Upgrade.")
        rows = ARROW_SCHEMA.empty_table()
    return _SegmentRows(readout.sealed, readout.corrupt, readout.newer, tuple(problems), rows)


def _check_archive(root: Path, manifest: ArchiveManifest) -> None:
    """Page checksums leave out a Parquet file's heads and footer; only its sha256 covers every byte.

    Raises:
        FileNotFoundError: A file is gone: there may be a newer manifest.
        InternalError: A file is not as it was written.
    """
    # Hashing lets other threads run.
    with ThreadPoolExecutor(_HASHERS) as pool:
        problems = list(pool.map(lambda file: check_parquet(root, file), manifest.files))
    for file, problem in zip(manifest.files, problems, strict=True):
        if problem is not None:
            if not parquet_path(root, file).exists():
                raise FileNotFoundError(problem)
            raise damaged(parquet_path(root, file), problem)


def _make_snapshot(root: Path, manifest: ArchiveManifest, segments: Sequence[_SegmentRows]) -> Snapshot:
    filled = [segment for segment in segments if segment.rows.num_rows]
    rows_read = sum(segment.rows.num_rows for segment in filled)
    if filled:
        ids = pa.chunked_array([chunk for segment in filled for chunk in segment.rows.column("event_id").chunks])
        keep = _first_of_each(ids) & ~held_by_archive(root, manifest.files, ids).to_numpy()
        start = 0
        for segment in filled:
            kept = keep[start : start + segment.rows.num_rows]
            start += segment.rows.num_rows
            if not kept.all():
                segment.rows = segment.rows.filter(pa.array(kept))
    tail = pa.concat_tables([ARROW_SCHEMA.empty_table(), *(segment.rows for segment in filled)])
    return Snapshot(
        root=root,
        parquet=tuple(parquet_path(root, file) for file in manifest.files),
        tail=tail,
        integrity=Integrity(
            segments=len(segments),
            unsealed=sum(not segment.sealed for segment in segments),
            tail_rows=tail.num_rows,
            duplicates=rows_read - tail.num_rows,
            corrupt=sum(segment.corrupt for segment in segments),
            quarantined=len(list_quarantined(root)),
            newer=sum(segment.newer for segment in segments),
        ),
        problems=tuple(problem for segment in segments for problem in segment.problems),
    )


def _first_of_each(ids: pa.ChunkedArray) -> np.ndarray:
    """One boolean a value: whether no earlier one equals it."""
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in ids.dictionary_encode().chunks])
    first = np.zeros(len(codes), bool)
    first[np.unique(codes, return_index=True)[1]] = True
    return first
