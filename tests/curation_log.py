"""Builds small logs for the tests of curation: what happened, in words, goes through the real writer."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.durability.recording import QuickFiles
from deployments.feedback.analysis.training_rows import write_training_rows
from deployments.feedback.analysis.views import open_views
from deployments.feedback.contracts import BUILT_IN
from deployments.feedback.markers import tombstone_row, undelivered_row
from deployments.feedback.schema import to_row
from deployments.feedback.snapshot import open_snapshot
from deployments.feedback.writer import LogWriter

START_US = 1_760_000_000_000_000
SUBJECTS = ("tides", "bread", "glass", "moths", "rust", "maps", "salt", "bees", "ice", "dust", "paper", "wool")


class CurationLog:
    """A log of one tenant, rows one second apart. Ids are returned, so that later events can name earlier ones."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._waiting: list[dict[str, Any]] = []
        self._count = 0

    def answer(self, **changes: Any) -> str:
        """An answer to a question of its own."""
        generation_id = changes.pop("id", f"answer-{self._count:05d}")
        number = self._count
        fields = {
            "kind": "generation",
            "generation_id": generation_id,
            "model": "small",
            "outcome": "pass",
            "quality_score": 0.9,
            "failed_checks": [],
            "prompt": [{"role": "user", "content": f"Question {number}: what of {SUBJECTS[number % 12]} {number}?"}],
            "answer": f"Of {SUBJECTS[number % 12]} there is this to say, number {number}, and {number * 7} more.",
            "answer_format": "markdown",
            "language": "auto",
            "settings": {"depth": 50},
        }
        return self._add(generation_id, fields | changes)

    def say(self, kind: str, about: str, **changes: Any) -> str:
        event_id = changes.pop("event_id", f"event-{self._count:05d}")
        fields = {"kind": kind, "generation_id": about, "name": kind, "source_type": "human", "source_id": "ann"}
        return self._add(event_id, fields | changes)

    def thumb(self, about: str, up: bool = True, **changes: Any) -> str:
        return self.say("thumb", about, value_bool=up, **changes)

    def correct(self, about: str, text: str, **changes: Any) -> str:
        return self.say("correction", about, text=text, **changes)

    def prefer(self, about: str, other: str, value: str = "this", **changes: Any) -> str:
        return self.say("preference", about, other_generation_id=other, value_str=value, **changes)

    def implicit(self, about: str, name: str, **changes: Any) -> str:
        return self.say("implicit", about, name=name, source_type="implicit", **changes)

    def erase(self, id: str, scope: str = "event") -> None:
        self._waiting.append(tombstone_row(id, scope, "acme", START_US + self._count))

    def undelivered(self, generation_id: str) -> None:
        self._waiting.append(undelivered_row(generation_id, "acme", START_US + self._count))

    def write(self) -> Path:
        """Put what is new on disk, through a writer of its own."""
        writer = LogWriter(self.root, files=QuickFiles())
        try:
            for future in [writer.submit(row) for row in self._waiting]:
                future.result(30)
        finally:
            writer.close()
        self._waiting = []
        return self.root

    def export(self, folder: Path) -> Path:
        """The file that ``python -m deployments.feedback.analysis export`` writes."""
        with open_views(open_snapshot(self.write()), BUILT_IN) as con:
            return write_training_rows(con, folder).path

    def rows(self, folder: Path) -> pa.Table:
        return pq.read_table(self.export(folder))

    def _add(self, event_id: str, fields: dict[str, Any]) -> str:
        self._count += 1
        common = {"event_id": event_id, "tenant": "acme", "ts_server_us": START_US + self._count * 1_000_000}
        self._waiting.append(to_row(common | fields))
        return event_id


def fill(log: CurationLog, answers: int = 120, raters: int = 24) -> CurationLog:
    """Enough for every method: thumbs on each answer, a correction on every third."""
    for number in range(answers):
        about = log.answer()
        rater = f"rater-{number % raters}"
        log.thumb(about, up=number % 3 != 0, source_id=rater)
        if number % 3 == 0:
            subject = SUBJECTS[number % 12]
            text = f"Better said of {subject}: case {number} differs from {number + 1}."
            log.correct(about, text, source_id=f"rater-{number // 3 % raters}")
    return log
