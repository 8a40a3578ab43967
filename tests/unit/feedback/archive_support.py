"""Logs in all the states that compaction, snapshots and look-ups meet, and what a reader must see of them."""

import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from feedback_support import QuickFiles, make_row

from deployments.feedback import schema, segment_format, segment_writer
from deployments.feedback.directory import claim_epoch
from deployments.feedback.erasure import Erasures
from deployments.feedback.schema import ARROW_SCHEMA, COLUMN_NAMES, to_batch
from deployments.feedback.segment_writer import SegmentWriter
from deployments.feedback.snapshot import Snapshot, open_snapshot

VERSION_1_COLUMNS = COLUMN_NAMES[: COLUMN_NAMES.index("row_crc") + 1]


def write_epoch(log: Path, epoch: int, *batches: list[dict[str, Any]], seal: bool = True, writer: str = "w") -> Path:
    """One segment of an incarnation that has ended; its path."""
    segments = SegmentWriter(log, writer, epoch, QuickFiles())
    for batch in batches:
        segments.append(to_batch(batch))
    if seal:
        segments.seal()
    segments.close()
    return segments.path


class LiveWriter:
    """An incarnation that lives until `close`, with its lock."""

    def __init__(self, log: Path) -> None:
        self.claim = claim_epoch(log, None, QuickFiles())
        self.segments = SegmentWriter(log, self.claim.writer_id, self.claim.epoch, QuickFiles())

    def write(self, *rows: dict[str, Any]) -> None:
        self.segments.append(to_batch(rows))

    def seal(self) -> None:
        self.segments.seal()

    def close(self) -> None:
        """End; an open segment stays unsealed, as a crash would leave it."""
        self.segments.close()
        self.claim.close()


def tombstone(event_id: str, *, of_generation: bool = False, **changes: Any) -> dict[str, Any]:
    """The row that erases an event, or a generation and all about it; its own id depends on what it erases."""
    return schema.to_row(
        {
            "event_id": f"erase-{event_id}",
            "kind": "tombstone",
            "name": "generation" if of_generation else "event",
            "supersedes": event_id,
            "tenant": "acme",
            "ts_server_us": 1_800_000_000_000_000,
            **changes,
        }
    )


def generation(number: int, **changes: Any) -> dict[str, Any]:
    """The row of an answer; feedback ``make_row(number)`` is about it."""
    fields = {"event_id": f"generation-{number}", "kind": "generation", "answer": f"the answer {number}"}
    return make_row(number, **fields, **changes)


def version_1(row: dict[str, Any]) -> dict[str, Any]:
    """The row as version 1 of the table wrote it."""
    old = {name: row[name] for name in VERSION_1_COLUMNS} | {"schema_version": 1}
    old["row_crc"] = zlib.crc32(schema._other_json(old), zlib.crc32(schema._content_json(old)))
    return old


def write_version(
    monkeypatch, log: Path, epoch: int, rows: list[dict[str, Any]], version: int, arrow: pa.Schema
) -> Path:
    """A sealed segment that another version of the table wrote."""
    with monkeypatch.context() as patch:
        patch.setattr(segment_format, "ARROW_SCHEMA", arrow)
        patch.setattr(segment_format, "SCHEMA_VERSION", version)
        patch.setattr(segment_writer, "SCHEMA_VERSION", version)
        segments = SegmentWriter(log, "w", epoch, QuickFiles())
        segments.append(pa.RecordBatch.from_pylist(rows, schema=arrow))
        segments.seal()
        segments.close()
    return segments.path


def write_version_1(monkeypatch, log: Path, epoch: int, rows: list[dict[str, Any]]) -> Path:
    arrow = pa.schema([ARROW_SCHEMA.field(name) for name in VERSION_1_COLUMNS])
    return write_version(monkeypatch, log, epoch, [version_1(row) for row in rows], 1, arrow)


def write_newer(monkeypatch, log: Path, epoch: int, rows: list[dict[str, Any]]) -> Path:
    """By a version that has one more column."""
    version = schema.SCHEMA_VERSION + 1
    newer = [{**row, "schema_version": version, "mood": "glad"} for row in rows]
    return write_version(monkeypatch, log, epoch, newer, version, ARROW_SCHEMA.append(pa.field("mood", pa.string())))


def archived_rows(log: Path, snapshot: Snapshot | None = None) -> list[dict[str, Any]]:
    """Every row of the snapshot's Parquet files, in their order; of the current ones without a snapshot."""
    empty = dict.fromkeys(COLUMN_NAMES)
    paths = (snapshot or open_snapshot(log)).parquet
    return [empty | row for path in paths for row in pq.ParquetFile(path).read().to_pylist()]


def all_rows(log: Path) -> dict[str, dict[str, Any]]:
    """What a snapshot has: no event_id may be there twice."""
    snapshot = open_snapshot(log)
    rows = archived_rows(log, snapshot) + snapshot.tail.to_pylist()
    by_id = {row["event_id"]: row for row in rows}
    assert len(by_id) == len(rows)
    return by_id


def visible_rows(log: Path) -> dict[str, dict[str, Any]]:
    """What every reader shows: tombstones and what they erase are not seen."""
    rows = all_rows(log)
    erasures = Erasures()
    erasures.add(pa.Table.from_pylist(list(rows.values()), schema=ARROW_SCHEMA))
    return {event_id: row for event_id, row in rows.items() if row["kind"] != "tombstone" and not erasures.covers(row)}


def files_with(log: Path, text: str) -> list[Path]:
    """Every file below the log's root that holds these bytes, Parquet files decoded."""
    found = []
    for path in sorted(path for path in log.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if path.suffix == ".parquet":
            data += repr(pq.ParquetFile(path).read().to_pylist()).encode()
        if text.encode() in data:
            found.append(path)
    return found
