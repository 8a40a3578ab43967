"""Brings a log back from the object store that `shipping` has mirrored it to: all of it or nothing, checked.

``python -m deployments.feedback.shipping restore`` runs it.
"""

import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from deployments.feedback.archive import (
    ARCHIVE,
    MANIFEST,
    ArchiveManifest,
    decode_archive_manifest,
    parquet_problem,
    write_archive_manifest,
)
from deployments.feedback.files import FileLayer, LocalFiles, ensure_directory, replace_file
from deployments.feedback.lineage import LINEAGE, read_lineage
from deployments.feedback.object_store import ObjectStore
from deployments.feedback.segment_format import SEGMENT_SUFFIX, manifest_path
from deployments.feedback.segment_reader import read_segment
from graph.errors import ConfigurationError, InternalError

OWNER = "log-id"
"""The object, and the file in the log's root, that says whose store this is."""
ARCHIVE_KEY = f"{ARCHIVE}/{MANIFEST}"


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What was brought back."""

    objects: int
    size_bytes: int
    segments: int
    """Sealed, not yet in the archive."""
    archive_version: int
    archive_rows: int
    took_s: float = 0.0


def restore(store: str | ObjectStore, root: Path, files: FileLayer | None = None) -> RestoreReport:
    """Bring the log in the store back to ``root``, all of it or nothing; every file is checked.

    Args:
        store: Where from; a URI is opened by `ObjectStore.from_uri`.
        root: Must be missing or empty. It is filled beside, then renamed into place.
        files: Where it is written; None: the real file system.

    Raises:
        ConfigurationError: The URI is not one, there is no log in the store, or ``root`` is not empty.
        InternalError: Something in the store is missing or damaged.
        OSError: The store or the disk fails.
    """
    began_s = time.monotonic()
    store = ObjectStore.from_uri(store) if isinstance(store, str) else store
    files = files or LocalFiles()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ConfigurationError(f"{root} is not empty; restore into a folder that is missing or empty.")
    sizes = store.sizes()
    if OWNER not in sizes:
        raise ConfigurationError(f"There is no log in {store.shown}: it has no object {OWNER!r}.")
    unfinished = root.with_name(f"{root.name}.restoring-{uuid.uuid4().hex[:8]}")
    try:
        ensure_directory(unfinished, files)
        report = _Restore(store, sizes, unfinished, files).run()
        files.rename(unfinished, root)
        files.fsync_dir(root.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return replace(report, took_s=time.monotonic() - began_s)


class _Restore:
    """Fills an empty folder from a store."""

    def __init__(self, store: ObjectStore, sizes: Mapping[str, int], target: Path, files: FileLayer) -> None:
        self._store = store
        self._sizes = sizes
        self._target = target
        self._files = files
        self._objects = 0
        self._size_bytes = 0

    def run(self) -> RestoreReport:
        self._copy(OWNER)
        manifest = ArchiveManifest(0, (), ())
        if ARCHIVE_KEY in self._sizes:
            manifest = decode_archive_manifest(self._store.get(ARCHIVE_KEY), f"in {self._store.shown}")
        for file in manifest.files:
            self._copy(f"{ARCHIVE}/{file.name}", partial(parquet_problem, file))
        segments = [key for key in self._sealed_segments() if key not in manifest.segments]
        for key in segments:
            self._copy(key)
            self._copy(_manifest_key(key))
            readout = read_segment(self._target / key)
            if readout.corrupt:
                raise self._damaged(key, readout.problem)
        for key in self._sizes:
            if key.startswith(f"{LINEAGE}/"):
                self._copy(key)
                read_lineage(self._target / key)
        if manifest.version:
            # What it had absorbed is not here, and must not stand for segments to come.
            write_archive_manifest(self._target, replace(manifest, segments=()), self._files)
        return RestoreReport(
            objects=self._objects,
            size_bytes=self._size_bytes,
            segments=len(segments),
            archive_version=manifest.version,
            archive_rows=manifest.rows,
        )

    def _sealed_segments(self) -> list[str]:
        return sorted(key for key in self._sizes if key.endswith(SEGMENT_SUFFIX) and _manifest_key(key) in self._sizes)

    def _copy(self, key: str, problem_of: Callable[[bytes], str | None] = lambda data: None) -> None:
        try:
            data = self._store.get(key)
        except FileNotFoundError:
            raise InternalError(f"The object {key} is missing in {self._store.shown}; nothing was restored.") from None
        problem = problem_of(data)
        if problem is not None:
            raise self._damaged(key, problem)
        path = self._target / key
        ensure_directory(path.parent, self._files)
        replace_file(path, data, self._files)
        self._objects += 1
        self._size_bytes += len(data)

    def _damaged(self, key: str, problem: str | None) -> InternalError:
        return InternalError(f"The object {key} in {self._store.shown} is damaged: {problem}. Nothing was restored.")


def _manifest_key(segment: str) -> str:
    return manifest_path(Path(segment)).as_posix()
