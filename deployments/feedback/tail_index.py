"""Where in a growing segment the rows of each id are: ids in memory, texts on disk.

For each id of a row 16 bytes once its segment is sealed, some 300 before. `lookup.LogReader` keeps one for each
segment that is not in the archive.
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from deployments.feedback.erasure import Erasures
from deployments.feedback.schema import FEEDBACK_KINDS
from deployments.feedback.segment_format import manifest_path
from deployments.feedback.segment_reader import SegmentBatch, SegmentCursor, read_on

SIGNAL_KINDS = frozenset({*FEEDBACK_KINDS, "validator"})
"""What people, judges and validators say of an answer."""
_ROW_BITS = 32
"""A position in a segment is one integer: batch number, row number."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a segment a row may be that has the id asked for."""

    path: Path
    head: bytes
    start_byte: int
    size_bytes: int
    row: int


class Index:
    """Positions by id: a dict while it grows, then two sorted arrays. Equal hashes are told apart by the row."""

    def __init__(self) -> None:
        self._growing: dict[int, list[int]] = {}
        self._hashes = np.empty(0, np.int64)
        self._positions = np.empty(0, np.int64)

    def add(self, id: str, position: int) -> None:
        self._growing.setdefault(hash(id), []).append(position)

    def freeze(self) -> None:
        """Take a tenth of the room; nothing is added any more."""
        positions = list(self._growing.values())
        hashes = np.repeat(np.fromiter(self._growing, np.int64), [len(some) for some in positions])
        order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[order]
        self._positions = np.fromiter(chain.from_iterable(positions), np.int64)[order]
        self._growing = {}

    def positions(self, id: str) -> list[int]:
        """In the order in which they were added; some may be of another id."""
        key = hash(id)
        first, last = (int(np.searchsorted(self._hashes, key, side)) for side in ("left", "right"))
        return [*self._positions[first:last].tolist(), *self._growing.get(key, ())]


class FollowedSegment:
    """One segment that is not in the archive: where the rows of each id are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = Index()
        self.mentions = Index()
        """By generation_id and other_generation_id, of rows that speak of an answer."""
        self._cursor = SegmentCursor(path)
        self._seen_bytes = -1
        self._final = False
        self.damaged = False
        """Sealed, and not all of it could be verified: rows are missing from the index."""
        self._batches: list[tuple[int, int]] = []

    def follow(self, erasures: Erasures) -> None:
        """Take in what was written since; tell ``erasures`` of new tombstones."""
        if self._final:
            return
        sealed = manifest_path(self.path).exists()
        size = self.path.stat().st_size
        if size != self._seen_bytes:
            while True:
                self._cursor, batches = read_on(self._cursor)
                for batch in batches:
                    self._add(batch)
                    erasures.add(batch.data)
                if not batches:
                    break
            self._seen_bytes = size
        if sealed:
            self.events.freeze()
            self.mentions.freeze()
            self._final = True
            self.damaged = self._cursor.offset < size

    def place(self, position: int) -> Place:
        start_byte, size_bytes = self._batches[position >> _ROW_BITS]
        return Place(self.path, self._cursor.head, start_byte, size_bytes, position & (1 << _ROW_BITS) - 1)

    def _add(self, batch: SegmentBatch) -> None:
        first = len(self._batches) << _ROW_BITS
        self._batches.append((batch.start_byte, batch.size_bytes))
        columns = ("event_id", "kind", "generation_id", "other_generation_id")
        rows = zip(*(batch.data.column(name).to_pylist() for name in columns), strict=True)
        for position, (event_id, kind, generation_id, other_generation_id) in enumerate(rows, first):
            self.events.add(event_id, position)
            if kind in SIGNAL_KINDS:
                for id in {generation_id, other_generation_id} - {None}:
                    self.mentions.add(id, position)
