"""What tombstones erase: the one definition for compaction and look-ups (the analysis has it once more, in SQL).

A tombstone names an event_id in ``supersedes``. With ``name == "generation"`` it names a generation, and erases
every row about it. Tombstones themselves are never erased: a late retry of an erased event must not come back.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

TOMBSTONE = "tombstone"
OF_GENERATION = "generation"
"""The ``name`` of a tombstone that erases a generation."""
TOMBSTONE_COLUMNS = ("kind", "name", "supersedes")
"""What `Erasures.add` looks at."""


class Erasures:
    """Ids that tombstones have erased; only ever grows, some 100 bytes an id."""

    def __init__(self) -> None:
        self.events: set[str] = set()
        self.generations: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self.events or self.generations)

    def add(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Take in the tombstones among these rows; other rows change nothing."""
        found = pc.equal(rows.column("kind"), TOMBSTONE)
        if not pc.any(found).as_py():  # nearly always
            return
        found = rows.select(list(TOMBSTONE_COLUMNS)).filter(found)
        names, ids = found.column("name").to_pylist(), found.column("supersedes").to_pylist()
        for name, erased in zip(names, ids, strict=True):
            if erased is not None:
                (self.generations if name == OF_GENERATION else self.events).add(erased)

    def update(self, other: "Erasures") -> None:
        """Take in what another has."""
        self.events |= other.events
        self.generations |= other.generations

    def covers(self, row: Mapping[str, Any]) -> bool:
        """Whether this row is erased."""
        return row["kind"] != TOMBSTONE and (
            row["event_id"] in self.events
            or row["event_id"] in self.generations
            or row["generation_id"] in self.generations
            or row["other_generation_id"] in self.generations
        )

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Return one boolean a row: whether it is erased; needs kind and the three id columns."""
        generations = pa.array(sorted(self.generations), pa.string())
        ids = pa.array(sorted(self.events | self.generations), pa.string())
        erased = pc.is_in(rows.column("event_id"), ids)
        for column in ("generation_id", "other_generation_id"):
            erased = pc.or_(erased, pc.is_in(rows.column(column), generations))
        return pc.and_(erased, pc.not_equal(rows.column("kind"), TOMBSTONE))
