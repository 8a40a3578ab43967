"""Reads a log as its readers do, and compares each row with what was written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.durability.rows import event_row
from deployments.feedback.parquet_files import open_parquet
from deployments.feedback.schema import COLUMN_NAMES, is_intact
from deployments.feedback.snapshot import open_snapshot


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader of the log gets, and what is wrong with it."""

    ids: frozenset[str]
    """Of rows that are as written."""
    doubled: int
    """Rows beyond the first of their event_id."""
    wrong: int
    """Rows that are not what was written although their row_crc is right."""
    broken: int
    """Rows whose row_crc tells that they were changed."""
    problems: tuple[str, ...] = ()
    """What the reader reports."""

    @property
    def faults(self) -> int:
        """How many rows a reader must never get."""
        return self.doubled + self.wrong + self.broken


def judge_rows(rows: Iterable[Mapping[str, Any]]) -> Reading:
    """Compare rows of `rows.event_row` with what they must be."""
    ids: list[str] = []
    wrong = broken = 0
    for given in rows:
        # As every reader does: the columns it knows, null where they lack. Damage may leave a row without event_id.
        row = {name: given.get(name) for name in COLUMN_NAMES}
        if type(row["event_id"]) is str and row == event_row(row["event_id"]):
            ids.append(row["event_id"])
        elif is_intact(row):
            wrong += 1
        else:
            broken += 1
    return Reading(frozenset(ids), len(ids) - len(set(ids)), wrong, broken)


def read_snapshot(root: Path) -> Reading:
    """Everything that readers of a snapshot get: the Parquet files and the tail.

    Raises:
        InternalError: The archive is damaged.
    """
    snapshot = open_snapshot(root)
    rows = snapshot.tail.to_pylist()
    for path in snapshot.parquet:
        rows += _parquet_rows(path)
    return replace(judge_rows(rows), problems=snapshot.problems)


_MOST_DECODED = 256
_decoded: dict[bytes, list[dict[str, Any]]] = {}
"""Rows by the bytes of their file: thousands of states differ in few files, and decoding them is what takes long."""


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    if data not in _decoded:
        with open_parquet(path) as parquet:
            rows = parquet.read(use_threads=False).to_pylist()
        if len(_decoded) >= _MOST_DECODED:
            _decoded.clear()
        _decoded[data] = rows
    return _decoded[data]
