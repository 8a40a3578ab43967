"""Flips bits of a log at rest, one place at a time, and asks every reader what it gets.

A log has sealed and unsealed segments, their manifests, Parquet files and the archive's manifest. Each flip is a
single bit, or a burst of random bytes; the log is read, and put right again. A reader that gives other rows than
were written, or fewer, without a word of it, has failed. That must not happen.

What guards what: segments have a CRC-32 a batch and a sha256 in their manifest; a Parquet file has a CRC a page, which
our readers ask Arrow to check, and a sha256 in the archive's manifest, which compaction checks before it reads; the
archive's manifest has a sha256 of its own. DuckDB, and Ray Data in training, check neither: they rest on the row_crc.
"""

import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from benchmarks.durability.outcome import Outcome
from benchmarks.durability.reading import Reading, judge_rows, read_snapshot
from benchmarks.durability.recording import QuickFiles
from benchmarks.durability.segments import write_segment
from benchmarks.durability.workers import Workers
from deployments.feedback.archive import check_parquet, parquet_path, read_archive_manifest
from deployments.feedback.compaction import compact
from deployments.feedback.lookup import LogReader
from deployments.feedback.parquet_files import open_parquet
from deployments.feedback.segment_reader import read_segment
from graph.errors import InternalError, RheostatError

_LONGEST_BURST = 64
_ARCHIVED = "archived-"
_TOLD_OF_EACH = 3
_HARMLESS = ("detected", "taken for a tail", "caught by row_crc", "harmless")
CLASSES = (*_HARMLESS, "not found", "crashed", "silent")
"""detected: reported, or refused. taken for a tail: damage in the last batch of an unsealed segment, which cannot be
told from a torn write; recovery reports the bytes and keeps them. caught by row_crc: the reader gives the row, and
whoever checks `schema.is_intact` drops it. not found: rows are missing and this reader does not say why. crashed: an
error that is none of ours. silent: rows that are wrong, doubled or made up, without a word."""


@dataclass(frozen=True, slots=True)
class Flip:
    """One place of one file."""

    target: str
    file: str
    """Below the root."""
    reader: str
    at: int
    damage: bytes
    """What is XORed onto the file's bytes from there."""


@dataclass(frozen=True, slots=True)
class _Target:
    """Files of one kind, and how they are read."""

    name: str
    files: tuple[str, ...]
    reader: str


def bitrot(
    flips: int,
    seed: int,
    scratch: Path | None = None,
    processes: int = 2,
    on_flip: Callable[[int], None] = lambda checked: None,
) -> Outcome:
    """Flip ``flips`` places, evenly over the kinds of files and their readers.

    Args:
        flips: How many.
        seed: Of the places, and of what is written there.
        scratch: Where the log lies; best a file system in memory. None: the usual temporary place.
        processes: Read at once.
        on_flip: Told how many flips were checked since it was last told.
    """
    rng = random.Random(seed)
    began_s = time.monotonic()
    classes: dict[tuple[str, str], Counter[str]] = {}
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix="rheostat-bitrot-", dir=scratch) as directory, Workers(processes) as pool:
        root = Path(directory, "log")
        ids = _make_log(root)
        todo = list(_draw(root, flips, rng))
        for flip, found in zip(todo, pool.map(_Check(root, ids), todo), strict=True):
            classes.setdefault((flip.target, flip.reader), Counter())[found] += 1
            if found not in _HARMLESS and classes[flip.target, flip.reader][found] <= _TOLD_OF_EACH:
                broken.append(
                    f"bit rot: {found}: {flip.file}, byte {flip.at}, read by {flip.reader}: {flip.damage.hex()}"
                )
            on_flip(1)
    rows: list[dict[str, Any]] = [
        {"file": target, "reader": reader, "flips": counts.total(), **{name: counts[name] for name in CLASSES}}
        for (target, reader), counts in classes.items()
    ]
    total = {name: sum(row[name] for row in rows) for name in ("flips", *CLASSES)}
    rows.append({"file": "all", "reader": "", **total})
    return Outcome("bit rot", tuple(rows), tuple(broken), time.monotonic() - began_s)


def _make_log(root: Path) -> frozenset[str]:
    """Two Parquet files, two sealed segments and one that a crash left unsealed, of a few batches each.

    A sealed one repeats rows of the archive, which a reader must see to drop them.
    """
    ids: set[str] = set()

    def write(name: str, *, sealed: bool = True, repeats: Sequence[str] = ()) -> None:
        batches = [[f"{name}-{batch}-{row}" for row in range(1 + 3 * batch)] for batch in range(3)]
        write_segment(root, name, [*batches, repeats] if repeats else batches, sealed=sealed)
        ids.update(*batches)

    write(f"{_ARCHIVED}a")
    write(f"{_ARCHIVED}b")
    compact(root, QuickFiles(), max_file_rows=12)
    write("sealed-a")
    write("sealed-b", repeats=sorted(ids)[::2])
    write("unsealed", sealed=False)
    return frozenset(ids)


def _targets(root: Path) -> list[_Target]:
    def named(pattern: str) -> tuple[str, ...]:
        found = tuple(sorted(path.relative_to(root).as_posix() for path in root.glob(pattern)))
        assert found, f"no {pattern}"
        return found

    parquet = tuple(f"archive/{file.name}" for file in read_archive_manifest(root).files)
    return [
        _Target("sealed segment", named("writer=sealed-*/*/*.arrows"), "snapshot"),
        _Target("segment manifest", named("writer=sealed-*/*/*.json"), "snapshot"),
        _Target("unsealed segment", named("writer=unsealed/*/*.arrows"), "snapshot"),
        _Target("archive manifest", ("archive/manifest.json",), "snapshot"),
        _Target("sealed segment", named("writer=sealed-*/*/*.arrows"), "look-up"),
        _Target("Parquet file", parquet, "snapshot"),
        _Target("Parquet file", parquet, "look-up"),
        _Target("Parquet file", parquet, "sha256"),
        _Target("Parquet file", parquet, "DuckDB"),
        _Target("Parquet file", parquet, "plain Arrow"),
    ]


def _draw(root: Path, flips: int, rng: random.Random) -> Iterator[Flip]:
    targets = _targets(root)
    for number in range(flips):
        target = targets[number % len(targets)]
        file = rng.choice(target.files)
        size = (root / file).stat().st_size
        if rng.random() < 0.7:
            yield Flip(target.name, file, target.reader, rng.randrange(size), bytes([1 << rng.randrange(8)]))
            continue
        at = rng.randrange(size)
        damage = rng.randbytes(min(rng.randrange(2, _LONGEST_BURST), size - at))
        yield Flip(target.name, file, target.reader, at, damage if any(damage) else b"\x01")


@dataclass(frozen=True, slots=True)
class _Check:
    """Applies a flip to this process's own copy of the log, reads it, takes the flip back; gives its class."""

    root: Path
    ids: frozenset[str]

    def __call__(self, flip: Flip) -> str:
        root = self.root.with_name(f"{self.root.name}-{os.getpid()}")
        if not root.exists():
            shutil.copytree(self.root, root)
        path = root / flip.file
        whole = path.read_bytes()
        flipped = bytearray(whole)
        for offset, bits in enumerate(flip.damage, start=flip.at):
            flipped[offset] ^= bits
        path.write_bytes(flipped)
        try:
            return self._classify(root, flip)
        finally:
            path.write_bytes(whole)

    def _classify(self, root: Path, flip: Flip) -> str:
        reader = _READERS[flip.reader]
        expected = frozenset(filter(_is_archived, self.ids)) if reader.of_archive else self.ids
        try:
            reading = reader.read(root, expected)
        except RheostatError:
            return "detected"
        except Exception:  # noqa: BLE001 - Arrow and DuckDB have many; from our own readers it is a bug
            return "detected" if reader.foreign else "crashed"
        found = len(reading.ids) + reading.broken
        if reading.wrong or reading.doubled or found > len(expected):
            return "silent"
        if reading.problems:
            return "detected"
        if found < len(expected):
            torn = flip.target == "unsealed segment" and read_segment(root / flip.file).problem
            return "taken for a tail" if torn else "not found"
        return "caught by row_crc" if reading.broken else "harmless"


def _is_archived(event_id: str) -> bool:
    return event_id.startswith(_ARCHIVED)


@dataclass(frozen=True, slots=True)
class _Reader:
    read: Callable[[Path, Collection[str]], Reading]
    """Of a root, rows that have these event_ids."""
    of_archive: bool = False
    """It reads Parquet files and nothing else."""
    foreign: bool = False
    """It is not ours, and knows nothing of our checksums."""


def _look_up(root: Path, ids: Collection[str]) -> Reading:
    """One row after the other, by its id."""
    log = LogReader(root)
    return judge_rows(row for event_id in ids if (row := log.event(event_id)) is not None)


def _read_checked(root: Path, ids: Collection[str]) -> Reading:
    """As compaction reads: the sha256 of each file first."""
    rows: list[dict[str, Any]] = []
    for file in read_archive_manifest(root).files:
        problem = check_parquet(root, file)
        if problem is not None:
            raise InternalError(problem)
        with open_parquet(parquet_path(root, file)) as parquet:
            rows += parquet.read(use_threads=False).to_pylist()
    return judge_rows(rows)


def _read_with_duckdb(root: Path, ids: Collection[str]) -> Reading:
    files = [str(path) for path in _parquet_paths(root)]
    with duckdb.connect() as con:
        table = con.read_parquet(files, hive_partitioning=False, union_by_name=True).to_arrow_table()
        return judge_rows(table.to_pylist())


def _read_plainly(root: Path, ids: Collection[str]) -> Reading:
    """As Ray Data reads."""
    rows: list[dict[str, Any]] = []
    for path in _parquet_paths(root):
        with pq.ParquetFile(path) as parquet:
            rows += parquet.read(use_threads=False).to_pylist()
    return judge_rows(rows)


def _parquet_paths(root: Path) -> list[Path]:
    return [parquet_path(root, file) for file in read_archive_manifest(root).files]


_READERS = {
    "snapshot": _Reader(lambda root, ids: read_snapshot(root)),
    "look-up": _Reader(_look_up),
    "sha256": _Reader(_read_checked, of_archive=True),
    "DuckDB": _Reader(_read_with_duckdb, of_archive=True, foreign=True),
    "plain Arrow": _Reader(_read_plainly, of_archive=True, foreign=True),
}
