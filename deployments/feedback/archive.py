"""The archive: Parquet files of compacted rows, and the manifest that says which of them are current.

    ROOT/archive/manifest.json              replaced by an atomic rename; the only truth about the rest
                 events-<version>-<n>.parquet   immutable; rows sorted by event_id, no event_id in two files
                 compaction.lock

A file that the manifest does not name is none of the archive's: what a crash left, or what an older manifest
named. Compaction writes here; snapshots, look-ups, shipping and the trainer read.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from deployments.feedback.files import FileLayer, replace_file
from deployments.feedback.parquet_files import damaged, encode_parquet, read_parquet
from graph.errors import InternalError

ARCHIVE = "archive"
MANIFEST = "manifest.json"
FORMAT = 1
_PARQUET_NAME = re.compile(r"events-\d+-\d+\.parquet")


@dataclass(frozen=True, slots=True)
class ParquetFile:
    """One current file of the archive."""

    name: str
    rows: int
    size_bytes: int
    sha256: str
    min_event_id: str
    max_event_id: str


@dataclass(frozen=True, slots=True)
class ArchiveManifest:
    """Which files are current, and which segments' rows they hold already."""

    version: int
    files: tuple[ParquetFile, ...]
    segments: tuple[str, ...]
    """Absorbed, as POSIX paths below the log's root; may still lie there. Readers pass over them."""

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(file.rows for file in self.files)


def archive_directory(root: Path) -> Path:
    """Return where the archive lies, whether or not it does."""
    return root / ARCHIVE


def archive_manifest_path(root: Path) -> Path:
    """Return where the archive's manifest lies, whether or not it does."""
    return root / ARCHIVE / MANIFEST


def parquet_path(root: Path, file: ParquetFile) -> Path:
    """Return where this file of the archive lies."""
    return root / ARCHIVE / file.name


def _numbers(name: str) -> tuple[int, int]:
    """(version, number) of a Parquet file's name."""
    _, version, number = name.removesuffix(".parquet").split("-")
    return int(version), int(number)


def is_parquet_name(name: str) -> bool:
    """Whether compaction gives such names."""
    return _PARQUET_NAME.fullmatch(name) is not None


def read_archive_manifest(root: Path) -> ArchiveManifest:
    """Return the current manifest; version 0, without files, where there is none.

    Raises:
        InternalError: It is damaged, or a newer version of Rheostat wrote it.
        OSError: It cannot be read.
    """
    path = archive_manifest_path(root)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return ArchiveManifest(0, (), ())
    return decode_archive_manifest(text, str(path))


def decode_archive_manifest(text: bytes, where: str) -> ArchiveManifest:
    """Return the manifest that this text is; ``where`` it lies is for the message of the InternalError."""
    try:
        stated = json.loads(text)
        if not isinstance(stated, dict):
            raise ValueError("it is not an object")
        written_sha256 = stated.pop("sha256", None)
        if written_sha256 != _sha256(stated):
            raise ValueError("its sha256 is not that of its content")
        if stated["format"] != FORMAT:
            raise ValueError(f"its format is {stated['format']}, and this version reads {FORMAT}: upgrade")
        return ArchiveManifest(
            version=stated["version"],
            files=tuple(ParquetFile(**file) for file in stated["files"]),
            segments=tuple(stated["segments"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InternalError(
            f"The archive manifest {where} cannot be trusted: {error}. Restore it from a copy "
            "(python -m deployments.feedback.shipping restore); nothing is compacted until then."
        ) from error


def encode_archive_manifest(manifest: ArchiveManifest) -> bytes:
    """Return the manifest as it lies on disk: JSON with a sha256 over all else."""
    content: dict[str, Any] = {"format": FORMAT, **asdict(manifest)}
    return (json.dumps(content | {"sha256": _sha256(content)}, indent=1) + "\n").encode()


def write_archive_manifest(root: Path, manifest: ArchiveManifest, files: FileLayer) -> None:
    """Make this manifest the current one: durable on return, or as if never begun."""
    replace_file(archive_manifest_path(root), encode_archive_manifest(manifest), files)


def write_parquet(root: Path, name: str, rows: pa.Table, files: FileLayer) -> ParquetFile:
    """Write rows as a file of the archive, durable on return; no manifest names it yet.

    Args:
        root: Of the log.
        name: ``events-<version>-<n>.parquet``.
        rows: At least one, sorted by event_id; each event_id once.
        files: Where it is written.
    """
    data = encode_parquet(rows)
    replace_file(root / ARCHIVE / name, data, files)
    ids = rows.column("event_id")
    return ParquetFile(
        name=name,
        rows=rows.num_rows,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        min_event_id=ids[0].as_py(),
        max_event_id=ids[-1].as_py(),
    )


def held_by_archive(root: Path, files: Sequence[ParquetFile], ids: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """Return one boolean an id: whether a row of these files has it.

    Reads event_ids only, of the row groups whose range the ids touch.

    Raises:
        FileNotFoundError: A file is gone: there is a newer manifest.
        InternalError: A file is damaged.
    """
    ids = ids if isinstance(ids, pa.ChunkedArray) else pa.chunked_array([ids], pa.string())
    held = pa.chunked_array([pa.repeat(False, len(ids))])
    if not len(ids):
        return held
    bounds = pc.min_max(ids)
    lowest, highest = bounds["min"].as_py(), bounds["max"].as_py()
    for file in files:
        if file.min_event_id <= highest and lowest <= file.max_event_id:
            stored = read_columns(root, file, ["event_id"], lowest, highest)
            held = pc.or_(held, pc.is_in(ids, stored.column("event_id").combine_chunks()))
    return held


def read_columns(
    root: Path, file: ParquetFile, columns: Sequence[str] | None, lowest: str | None = None, highest: str | None = None
) -> pa.Table:
    """Return columns of one file, as `read_parquet` does; FileNotFoundError: there is a newer manifest."""
    return read_parquet(parquet_path(root, file), columns, lowest, highest)


@dataclass(frozen=True, slots=True)
class ArchivedId:
    """One row of the archive, as a writer remembers it."""

    event_id: str
    content_hash: str
    file: str
    """Path below the log's root."""
    position: int


def read_newest_ids(root: Path, limit: int) -> list[ArchivedId]:
    """Return the rows that were written last, newest first, at most ``limit``.

    Best effort: files that were absorbed last are searched first, until they hold enough; a damaged archive has none.
    """
    rows: list[tuple[int, ArchivedId]] = []
    try:
        files = read_archive_manifest(root).files if limit > 0 else ()
        for file in sorted(files, key=lambda file: _numbers(file.name), reverse=True):
            if len(rows) >= limit:
                break
            table = read_columns(root, file, ["event_id", "content_hash", "ts_server_us"])
            newest = pc.select_k_unstable(table, min(limit, len(table)), [("ts_server_us", "descending")])
            for row, position in zip(table.take(newest).to_pylist(), newest.to_pylist(), strict=True):
                name = f"{ARCHIVE}/{file.name}"
                rows.append((row["ts_server_us"], ArchivedId(row["event_id"], row["content_hash"], name, position)))
    except (InternalError, FileNotFoundError):
        return []
    rows.sort(key=lambda row: row[0], reverse=True)
    return [archived for _, archived in rows[:limit]]


def check_parquet(root: Path, file: ParquetFile) -> str | None:
    """What is wrong with this file by the manifest's size and sha256, in words; None: nothing. Not held in memory."""
    try:
        with parquet_path(root, file).open("rb") as stored:
            digest = hashlib.file_digest(stored, "sha256").hexdigest()
            size_bytes = stored.tell()
    except FileNotFoundError:
        return f"{file.name} is missing"
    except OSError as error:
        return f"{file.name} cannot be read: {error}"
    return _mismatch(file, size_bytes, digest)


def parquet_problem(file: ParquetFile, data: bytes) -> str | None:
    """What is wrong with these bytes of this file, in words; None: nothing."""
    return _mismatch(file, len(data), hashlib.sha256(data).hexdigest())


def _mismatch(file: ParquetFile, size_bytes: int, sha256: str) -> str | None:
    if size_bytes != file.size_bytes:
        return f"{file.name} has {size_bytes} bytes where the manifest says {file.size_bytes}"
    return None if sha256 == file.sha256 else f"the sha256 of {file.name} is not the manifest's"


def lost_file(root: Path, manifest: ArchiveManifest) -> InternalError | None:
    """The error for a file that is named and gone; None if none is, or if there is a newer manifest by now.

    A file goes only after a manifest without it is there, so the one that is current names no file that is gone.
    """
    for path in (parquet_path(root, file) for file in manifest.files):
        if not path.exists() and read_archive_manifest(root).version == manifest.version:
            return damaged(path, "it is missing")
    return None


def verify_archive(root: Path) -> tuple[str, ...]:
    """Read every file of the archive and return what is wrong, in words; empty: all is as written."""
    manifest = read_archive_manifest(root)
    return tuple(problem for file in manifest.files if (problem := check_parquet(root, file)) is not None)


def unreferenced_files(root: Path, *manifests: ArchiveManifest) -> list[Path]:
    """What lies in the archive and is in none of these: leftovers of a crash, files that an older manifest named."""
    current = {file.name for manifest in manifests for file in manifest.files}
    try:
        names = sorted(os.listdir(archive_directory(root)))
    except FileNotFoundError:
        return []
    return [
        archive_directory(root) / name
        for name in names
        if name.endswith(".tmp") or (is_parquet_name(name) and name not in current)
    ]


def _sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
