"""Which events an adapter was trained on, so that an erasure can list the adapters that still know of it.

    ROOT/lineage/<adapter>.parquet    one column, event_id, sorted; the dataset's name in the schema's metadata

A file is written once, by the trainer, and never changes: adapters are immutable too. It holds ids only, so it
outlives the rows.
"""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from deployments.feedback.files import FileLayer, LocalFiles, ensure_directory, replace_file, try_lock
from deployments.feedback.parquet_files import encode_parquet, read_parquet
from graph.errors import Conflict, InvalidRequest, Unavailable

LINEAGE = "lineage"
_SUFFIX = ".parquet"
_LOCK = "writer.lock"
_ADAPTER = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def record_lineage(
    root: Path, adapter: str, dataset: str, event_ids: Iterable[str], files: FileLayer | None = None
) -> None:
    """Keep what this adapter was trained on: durable on return. The same again does nothing.

    Args:
        root: Of the log; made if missing.
        adapter: Its name, 1-128 of ``A-Z a-z 0-9 _ . -``; best the hash of its content.
        dataset: What it was trained on, such as the hash of the dataset's manifest.
        event_ids: Of all rows that went into the dataset, generations and feedback; order does not matter.
        files: Where it is written; None: the real file system.

    Raises:
        InvalidRequest: The name is not allowed.
        Conflict: This adapter was recorded with other events or another dataset.
        Unavailable: Another process records lineage just now.
        OSError: The disk is full, or fails.
    """
    path = _path(root, adapter)
    files = files or LocalFiles()
    schema = pa.schema([pa.field("event_id", pa.string(), nullable=False)], metadata={"dataset": dataset})
    table = pa.table([pa.array(sorted(set(event_ids)), pa.string())], schema=schema)
    ensure_directory(path.parent, files)
    lock = try_lock(path.parent / _LOCK)
    if lock is None:
        raise Unavailable("Another process records lineage just now; try again in a few seconds.")
    try:
        if not path.exists():
            replace_file(path, encode_parquet(table), files)
            return
    finally:
        lock.close()
    known = read_lineage(path)
    if not known.equals(table) or known.schema.metadata[b"dataset"] != dataset.encode():
        raise Conflict(
            f"The adapter {adapter!r} was recorded before, with other events or another dataset. Adapters do not "
            "change: record the new one under a new name.",
            param="adapter",
        )


def adapters_trained_on(root: Path, event_ids: Collection[str]) -> tuple[str, ...]:
    """Return the names of the adapters of which any of these events was a part, sorted. ``root`` need not exist.

    Raises:
        InternalError: A file is damaged; the list would not be complete.
        OSError: A file cannot be read.
    """
    wanted = pa.array(sorted(set(event_ids)), pa.string())
    found = [path for path in list_lineage(root) if pc.any(pc.is_in(read_lineage(path).column(0), wanted)).as_py()]
    return tuple(path.name.removesuffix(_SUFFIX) for path in found)


def list_lineage(root: Path) -> list[Path]:
    """Return every adapter's file."""
    return sorted((root / LINEAGE).glob(f"*{_SUFFIX}"))


def read_lineage(path: Path) -> pa.Table:
    """Return one adapter's event_ids; the dataset's name is in the schema's metadata.

    Raises:
        InternalError: The file is damaged.
    """
    return read_parquet(path)


def _path(root: Path, adapter: str) -> Path:
    if not _ADAPTER.fullmatch(adapter):
        raise InvalidRequest(f"The adapter name {adapter!r} must be 1-128 of A-Z a-z 0-9 _ . -", param="adapter")
    return root / LINEAGE / f"{adapter}{_SUFFIX}"
