"""Writes the training rows: every signal that counts, beside the answer it speaks of, as one Parquet file.

The rows are the view ``joined`` and nothing else, so their number is that of the report. They are sorted by event_id
and written in groups of a fixed size: equal logs give equal bytes. Curation reads the file through Ray Data.
"""

import hashlib
import os
import tempfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from deployments.feedback.analysis.period import Scope

FILE_NAME = "training-rows.parquet"
GROUP_ROWS = 8192
BUCKET_ROWS = 2 * GROUP_ROWS
"""Sorted at once in memory, with all their texts."""
EXPORT_SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("row_crc", pa.uint32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("value_bool", pa.bool_()),
        pa.field("value_num", pa.float64()),
        pa.field("value_str", pa.string()),
        pa.field("text", pa.string()),
        pa.field("value_event_id", pa.string(), nullable=False),
        pa.field("text_event_id", pa.string(), nullable=False),
        pa.field("source_type", pa.string()),
        pa.field("source_id", pa.string()),
        pa.field("tags", pa.string()),
        pa.field("ts_server_us", pa.int64(), nullable=False),
        pa.field("tenant", pa.string(), nullable=False),
        pa.field("generation_id", pa.string(), nullable=False),
        pa.field("generation_ts_server_us", pa.int64(), nullable=False),
        pa.field("prompt", pa.string()),
        pa.field("answer", pa.string()),
        pa.field("other_generation_id", pa.string()),
        pa.field("other_answer", pa.string()),
        pa.field("model", pa.string()),
        pa.field("adapter", pa.string()),
        pa.field("arm", pa.string()),
        pa.field("controls", pa.string()),
        pa.field("settings", pa.string()),
        pa.field("answer_format", pa.string()),
        pa.field("language", pa.string()),
        pa.field("prompt_template", pa.string()),
        pa.field("prompt_hash", pa.string()),
        pa.field("outcome", pa.string()),
        pa.field("quality_score", pa.float64()),
        pa.field("failed_checks", pa.string()),
        pa.field("passed", pa.bool_()),
        pa.field("served", pa.bool_(), nullable=False),
    ]
)
"""Names are those of the log. ``row_crc``: of the signal's own row. ``value_event_id``, ``text_event_id``: the
supersede that gave value or text, else the event itself; whoever records lineage records all three ids."""
_OTHERS = """
CREATE OR REPLACE TEMP TABLE others AS
    SELECT generation_id, tenant, answer FROM main.generations
    WHERE generation_id IN (SELECT other_generation_id FROM main.signals WHERE other_generation_id IS NOT NULL)
"""
_ROWS = """
SELECT {columns} FROM (
    SELECT j.*, o.answer AS other_answer
    FROM main.joined j LEFT JOIN others o ON o.generation_id = j.other_generation_id AND o.tenant = j.tenant
    WHERE {scope}
)
"""
_BOUNDS = f"""
SELECT event_id FROM (SELECT event_id, row_number() OVER (ORDER BY event_id) AS place FROM main.signals)
WHERE place % {BUCKET_ROWS} = 0 ORDER BY event_id
"""


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """What was written."""

    path: Path
    rows: int
    size_bytes: int
    sha256: str


def write_training_rows(con: duckdb.DuckDBPyConnection, folder: Path, scope: Scope | None = None) -> TrainingRows:
    """Write ``training-rows.parquet`` into the folder, whole or not at all; an older one is replaced. Blocks.

    Needs disk in the folder for the rows once more while it works.

    Args:
        con: From `views.open_views`.
        folder: Made if missing.
        scope: Signals of this period and tenant; None: all.

    Raises:
        OSError: It cannot be written.
        duckdb.Error: A Parquet file of the snapshot is gone: compaction removed it. Open a new snapshot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    sql = _ROWS.format(columns=", ".join(EXPORT_SCHEMA.names), scope=(scope or Scope()).predicate("j."))
    bounds = [row[0] for row in con.execute(_BOUNDS).fetchall()]
    # Joins as they are written: signals go into the hash table, and the answers' texts stream past. DuckDB's guess
    # of their number may turn that round, and all texts do not fit into memory.
    con.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
    try:
        con.execute(_OTHERS)
        with tempfile.TemporaryDirectory(prefix="sorting-", dir=folder) as scratch:
            buckets = _spread(con.sql(sql).to_arrow_reader(GROUP_ROWS), bounds, Path(scratch))
            temporary = Path(scratch) / FILE_NAME
            rows = 0
            with pq.ParquetWriter(temporary, EXPORT_SCHEMA, compression="zstd", write_page_checksum=True) as writer:
                for group in _groups(map(_read_sorted, buckets)):
                    writer.write_table(group, row_group_size=GROUP_ROWS)
                    rows += group.num_rows
            with temporary.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                size_bytes = os.fstat(file.fileno()).st_size
            os.replace(temporary, path)
    finally:
        con.execute("RESET disabled_optimizers")
    return TrainingRows(path, rows, size_bytes, sha256)


def _spread(reader: pa.RecordBatchReader, bounds: list[str], folder: Path) -> list[Path]:
    """Write the rows into one file for each range of event_ids, in the ranges' order; within, in no order.

    DuckDB's own sort of rows this wide wants more memory than it is allowed.
    """
    paths = [folder / f"{number}.arrow" for number in range(len(bounds) + 1)]
    with ExitStack() as open_files:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        writers = [
            open_files.enter_context(
                pa.ipc.new_file(open_files.enter_context(path.open("wb")), EXPORT_SCHEMA, options=options)
            )
            for path in paths
        ]
        for batch in reader:
            places = np.array([bisect_left(bounds, event_id) for event_id in batch.column("event_id").to_pylist()])
            table = pa.Table.from_batches([batch]).cast(EXPORT_SCHEMA)
            for place in np.unique(places):
                writers[place].write_table(table.filter(pa.array(places == place)))
    return paths


def _read_sorted(path: Path) -> pa.Table:
    with pa.ipc.open_file(path) as reader:
        return reader.read_all().sort_by("event_id")


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of exactly `GROUP_ROWS`, the last one aside, so that equal rows give equal bytes."""
    held = EXPORT_SCHEMA.empty_table()
    for table in tables:
        held = pa.concat_tables([held, table])
        while held.num_rows >= GROUP_ROWS:
            yield held.slice(0, GROUP_ROWS).combine_chunks()
            held = held.slice(GROUP_ROWS)
    if held.num_rows:
        yield held.combine_chunks()
