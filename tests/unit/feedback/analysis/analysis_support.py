"""Builds small logs for the tests of the analysis: what happened, in words, becomes rows in sealed segments."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.durability.recording import QuickFiles
from deployments.feedback.analysis.views import open_views
from deployments.feedback.contracts import BUILT_IN, MetricContract
from deployments.feedback.schema import to_batch, to_row
from deployments.feedback.segment_writer import SegmentWriter
from deployments.feedback.snapshot import open_snapshot

NOW_US = 1_750_000_000_000_000
HOUR_US = 3_600_000_000
CONTRACTS = MappingProxyType({**BUILT_IN, "harmful": MetricContract("harmful", "thumb", better="lower")})


class LogBuilder:
    """Rows in order of time, one second apart; `write` puts what is new into a segment of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: list[dict[str, Any]] = []
        self._written = 0
        self._epoch = 0
        self._clock_us = NOW_US

    def answer(self, generation_id: str, **changes: Any) -> str:
        fields = {
            "kind": "generation",
            "model": "small",
            "outcome": "pass",
            "quality_score": 0.9,
            "failed_checks": [],
            "prompt": [{"role": "user", "content": f"Question of {generation_id}?"}],
            "answer": f"Answer {generation_id}.",
            "answer_format": "markdown",
            "language": "auto",
            "settings": {"depth": 50, "format": "markdown"},
            "prompt_hash": f"hash of {generation_id}",
        }
        return self._add(generation_id, {"generation_id": generation_id} | fields | changes)

    def say(self, kind: str, about: str | None, **changes: Any) -> str:
        event_id = changes.pop("event_id", f"event-{len(self.rows):04d}")
        fields = {"kind": kind, "generation_id": about, "name": kind, "source_type": "human", "source_id": "ann"}
        return self._add(event_id, fields | changes)

    def thumb(self, about: str | None, up: bool = True, **changes: Any) -> str:
        return self.say("thumb", about, value_bool=up, **changes)

    def retract(self, target: str, **changes: Any) -> str:
        return self.say("retract", self._answer_of(target), supersedes=target, **changes)

    def supersede(self, target: str, **changes: Any) -> str:
        return self.say("supersede", self._answer_of(target), supersedes=target, **changes)

    def _answer_of(self, event_id: str) -> str | None:
        return next((row["generation_id"] for row in self.rows if row["event_id"] == event_id), "g1")

    def erase(self, target: str, **changes: Any) -> str:
        return self.say("tombstone", None, supersedes=target, **({"name": None, "source_type": None} | changes))

    def repeat(self, event_id: str) -> None:
        """The row comes once more, as when two writers got a retry."""
        self.rows.append(next(row for row in self.rows if row["event_id"] == event_id))

    def write(self) -> Path:
        new, self._written = self.rows[self._written :], len(self.rows)
        if new:
            self._epoch += 1
            segments = SegmentWriter(self.root, "w", self._epoch, QuickFiles())
            segments.append(to_batch(new))
            segments.seal()
        return self.root

    def open(self):
        """A connection with the views over all rows."""
        return open_views(open_snapshot(self.write()), CONTRACTS)

    def _add(self, event_id: str, fields: dict[str, Any]) -> str:
        self._clock_us += 1_000_000
        common = {"event_id": event_id, "tenant": "acme", "ts_server_us": self._clock_us}
        self.rows.append(to_row(common | fields))
        return event_id


def ids(con, view: str) -> list[str]:
    """The event_ids of a view, sorted."""
    return [row[0] for row in con.execute(f"SELECT event_id FROM {view} ORDER BY event_id").fetchall()]


def one(con, sql: str) -> Any:
    """The only row of a query; its only value, if it has one."""
    rows = con.execute(sql).fetchall()
    assert len(rows) == 1, rows
    return rows[0] if len(rows[0]) > 1 else rows[0][0]
