"""Mirrors the durable part of the log to an object store, and brings it back.

    python -m deployments.feedback.shipping push --log data/log --to s3://bucket/prefix [--json OUT]
    python -m deployments.feedback.shipping restore --from s3://bucket/prefix --log data/log [--json OUT]

Shipped are sealed segments, the archive and the lineage: whole files, each checked against its checksum before it
leaves. What an unsealed segment holds is on the local disk only; the report calls it the lag. Keys are the paths below
the log's root. The order keeps the copy usable at any moment: files first, then the archive's manifest that names them,
then what nothing names any more is deleted, so that erasure reaches the store. (Versions that a bucket keeps are the
operator's to expire.)

A store belongs to one log, by the id in its object ``log-id``: another log, or an empty disk in the place of a lost
one, must not delete what is there.
"""

import argparse
import re
import sys
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from deployments.feedback.archive import (
    ARCHIVE,
    ArchiveManifest,
    archive_directory,
    decode_archive_manifest,
    encode_archive_manifest,
    parquet_problem,
    read_archive_manifest,
)
from deployments.feedback.chore_report import print_report
from deployments.feedback.directory import list_segments
from deployments.feedback.files import FileLayer, LocalFiles, ensure_directory, replace_file, try_lock
from deployments.feedback.lineage import LINEAGE, list_lineage
from deployments.feedback.object_store import ObjectStore
from deployments.feedback.restoring import ARCHIVE_KEY, OWNER, RestoreReport, restore
from deployments.feedback.segment_format import manifest_path
from deployments.feedback.segment_reader import sealed_problem
from graph.errors import ConfigurationError, Conflict, InternalError, RheostatError

LOCK = "shipping.lock"
BUSY_EXIT = 3
_OURS = re.compile(rf"(writer=[^/]+/epoch=\d+/seg-|{ARCHIVE}/|{LINEAGE}/).*")
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class ShipReport:
    """What one push did, and what is not in the store after it."""

    objects: int = 0
    """Written now; those that were there already do not count."""
    size_bytes: int = 0
    deleted: int = 0
    stored: int = 0
    """Objects in the store now, the manifest and the id included."""
    archive_version: int = 0
    lag_segments: int = 0
    """Unsealed, so on the local disk only."""
    lag_bytes: int = 0
    problems: tuple[str, ...] = ()
    """Files that are damaged here and were not shipped, in words."""
    took_s: float = 0.0
    busy: bool = False
    """Another push of this log is at work; nothing was done."""


def ship(root: Path, store: str | ObjectStore, files: FileLayer | None = None) -> ShipReport:
    """Make the store a copy of what is durable here; blocks; does nothing that is done already.

    Args:
        root: Of the log; it must exist.
        store: Where to; a URI is opened by `ObjectStore.from_uri`.
        files: Where the log's id is kept at its first push; None: the real file system.

    Raises:
        ConfigurationError: The URI is not one, or there is no such log.
        Conflict: The store holds another log, or a later state of this one.
        InternalError: The archive's manifest is damaged, here or there.
        OSError: The store or the disk fails. What is in the store is as after the last finished step.
    """
    began_s = time.monotonic()
    if not root.is_dir():
        raise ConfigurationError(f"There is no log at {root}; nothing was shipped.")
    store = ObjectStore.from_uri(store) if isinstance(store, str) else store
    files = files or LocalFiles()
    ensure_directory(archive_directory(root), files)
    lock = try_lock(archive_directory(root) / LOCK)
    if lock is None:
        return ShipReport(busy=True)
    try:
        _claim_store(root, store, files)
        for _ in range(_ATTEMPTS):
            try:
                return replace(_Push(root, store).run(), took_s=time.monotonic() - began_s)
            except _Changed:
                continue
    finally:
        lock.close()
    raise InternalError(f"The log {root} was compacted {_ATTEMPTS} times while it was shipped; try again.")


class _Changed(Exception):
    """Compaction took a file away while it was shipped."""


class _Push:
    """One pass over the log, with the manifest that is current at its beginning."""

    def __init__(self, root: Path, store: ObjectStore) -> None:
        self._root = root
        self._store = store
        self._stored = store.sizes()
        self._report = ShipReport()
        self._problems: list[str] = []

    def run(self) -> ShipReport:
        manifest = read_archive_manifest(self._root)
        self._check_not_older(manifest)
        absorbed = set(manifest.segments)
        segments = [path for path in list_segments(self._root) if self._key(path) not in absorbed]
        sealed = [path for path in segments if manifest_path(path).exists()]
        if read_archive_manifest(self._root).version != manifest.version:
            raise _Changed
        current = {OWNER}
        for path in sealed:
            current |= {self._key(path), self._key(manifest_path(path))}
            self._ship_segment(path)
        for file in manifest.files:
            path = archive_directory(self._root) / file.name
            current.add(self._key(path))
            self._ship_file(path, partial(parquet_problem, file))
        for path in list_lineage(self._root):
            current.add(self._key(path))
            self._ship_file(path)
        if manifest.version:
            current.add(ARCHIVE_KEY)
            self._ship_manifest(manifest)
        self._delete_others(current)
        unsealed = [path for path in segments if path not in sealed]
        return replace(
            self._report,
            stored=len(self._stored),
            archive_version=manifest.version,
            lag_segments=len(unsealed),
            lag_bytes=sum(_size_of(path) for path in unsealed),
            problems=tuple(self._problems),
        )

    def _check_not_older(self, manifest: ArchiveManifest) -> None:
        self._stored_manifest = self._store.get(ARCHIVE_KEY) if ARCHIVE_KEY in self._stored else None
        if self._stored_manifest is None:
            return
        stored = decode_archive_manifest(self._stored_manifest, f"in {self._store.shown}").version
        if stored > manifest.version:
            raise Conflict(
                f"The store {self._store.shown} holds version {stored} of the archive and {self._root} only "
                f"{manifest.version}: this log lost something. Restore it from the store, or ship to another one."
            )

    def _ship_segment(self, path: Path) -> None:
        manifest = _read(manifest_path(path))
        # The manifest last: without it a reader of the store takes the segment for none.
        if self._ship_file(path, lambda data: sealed_problem(manifest, data)):
            self._ship_file(manifest_path(path))

    def _ship_file(self, path: Path, problem_of: Callable[[bytes], str | None] = lambda data: None) -> bool:
        """Put a file that never changes, unless it is there; False: it is damaged."""
        key = self._key(path)
        if self._stored.get(key) == _size_of(path):
            return True
        data = _read(path)
        problem = problem_of(data)
        if problem is not None:
            self._problems.append(f"{key} is damaged and was not shipped: {problem}.")
            return False
        self._put(key, data)
        return True

    def _ship_manifest(self, manifest: ArchiveManifest) -> None:
        data = encode_archive_manifest(manifest)
        if data != self._stored_manifest:
            self._put(ARCHIVE_KEY, data)

    def _put(self, key: str, data: bytes) -> None:
        self._store.put(key, data)
        self._stored[key] = len(data)
        self._report = replace(
            self._report, objects=self._report.objects + 1, size_bytes=self._report.size_bytes + len(data)
        )

    def _delete_others(self, current: Collection[str]) -> None:
        others = [key for key in self._stored if key not in current and _OURS.fullmatch(key)]
        for key in others:
            self._store.delete(key)
            del self._stored[key]
        self._report = replace(self._report, deleted=len(others))

    def _key(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def _claim_store(root: Path, store: ObjectStore, files: FileLayer) -> None:
    """Make sure that the store is this log's, from the first push on."""
    path = root / OWNER
    own = path.read_bytes() if path.exists() else None
    sizes = store.sizes()
    if OWNER in sizes:
        if store.get(OWNER) != own:
            raise Conflict(
                f"The store {store.shown} holds another log than {root}. Ship to an empty place, or, if this disk "
                "is to take over from a lost one, restore the store into an empty folder first."
            )
        return
    if any(map(_OURS.fullmatch, sizes)):
        raise Conflict(f"The store {store.shown} holds a log without an object {OWNER!r}; ship to an empty place.")
    if own is None:
        own = uuid.uuid4().hex.encode()
        replace_file(path, own, files)
    store.put(OWNER, own)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _Changed from None


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise _Changed from None


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 1 (failed) or 3 (another push is at work)."""
    parser = argparse.ArgumentParser(prog="python -m deployments.feedback.shipping", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    push = commands.add_parser("push", help="make the store a copy of the log's durable part")
    push.add_argument("--to", required=True, metavar="URI")
    pull = commands.add_parser("restore", help="bring the log back from the store")
    pull.add_argument("--from", dest="source", required=True, metavar="URI")
    for command in (push, pull):
        command.add_argument("--log", type=Path, required=True, metavar="DIR", help="root of the log")
        command.add_argument("--json", metavar="OUT", help="write the report there; - is the standard output")
    options = parser.parse_args(argv)
    try:
        if options.command == "push":
            report: ShipReport | RestoreReport = ship(options.log, options.to)
        else:
            report = restore(options.source, options.log)
    except OSError as error:
        print(f"The {options.command} did not end: {error}. Run it again; it takes up where it was.", file=sys.stderr)
        return 1
    except RheostatError as error:
        print(error.message, file=sys.stderr)
        return 1
    print_report(options.command, report, options.json)
    return BUSY_EXIT if isinstance(report, ShipReport) and report.busy else 0


if __name__ == "__main__":
    sys.exit(main())
