"""The one definition of every view that is derived from the log, as DuckDB views over a snapshot.

Terminal, HTML, JSON, the `sql` prompt and the training rows all read these, so they cannot disagree. `VIEWS` says
what each is. The rules of what counts are in `fates`. This module does not know periods, statistics or charts.
"""

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb

from deployments.feedback.analysis.fates import decide_fates
from deployments.feedback.analysis.view_sql import (
    CODED_COLUMNS,
    ERASED_AND_UNDELIVERED,
    FEEDBACK_AND_SIGNALS,
    GENERATION_COLUMNS,
    KEPT_ANSWERS,
    LOG_AND_GENERATIONS,
    MACROS,
    SAMPLED_COLUMNS,
    THUMBS_AND_RATINGS,
)
from deployments.feedback.contracts import MetricContract
from deployments.feedback.schema import COLUMN_NAMES
from deployments.feedback.snapshot import Snapshot

MEMORY_LIMIT = "640MB"
"""Of DuckDB's own buffers; beyond it, it spills to a temporary folder."""
THREADS = 2
CLUSTER_ROWS = 8192
"""Of a sample of texts: whole vectors of DuckDB, which it skips without decoding them."""
MAX_CODES = 1000
"""A column of more different texts is kept as it is: DuckDB copies the list of an ENUM with every plan."""

VIEWS: Mapping[str, str] = {
    "log": "Every row of the log once, without what was erased.",
    "generations": "Answers. served: no 'undelivered' row names it. passed: the verdict on what was delivered.",
    "feedback": "Everything that users sent, with its fate: effective, replaced, retracted, retract or supersede.",
    "signals": "Effective feedback: after retract, supersede, and one signal a rater, answer and name.",
    "joined": "Signals with the answer they speak of, in its tenant. The training rows.",
    "orphans": "Signals whose answer is not in the log of their tenant.",
    "thumbs": "Of joined: thumbs that people gave. approved: up, or down where the contract says lower is better.",
    "ratings": "Of joined: ratings that people gave, with range and direction of their contract, where it has one.",
}
"""Each view and what it means."""


def open_views(
    snapshot: Snapshot, contracts: Mapping[str, MetricContract], *, threads: int = THREADS
) -> duckdb.DuckDBPyConnection:
    """Return a connection in whose main schema the `VIEWS` are, and the table ``contracts``.

    Reads the snapshot's narrow columns once, to decide each feedback's fate; everything else is read when asked
    for. Blocks. Nothing that is run on the connection can reach the network, or a file but the snapshot's.

    Raises:
        duckdb.Error: A Parquet file of the snapshot is gone: compaction removed it. Open a new snapshot.
    """
    con = duckdb.connect(
        config={
            "threads": threads,
            "memory_limit": MEMORY_LIMIT,
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            "enable_external_file_cache": False,
            # There is nothing to save: a checkpoint of tables in memory would only copy them.
            "checkpoint_threshold": "1TB",
        }
    )
    # What is spilled holds texts of users: nobody else may look into the folder, and it goes with the connection.
    folder = tempfile.mkdtemp(prefix="rheostat-analysis-")
    weakref.finalize(con, shutil.rmtree, folder, ignore_errors=True)
    try:
        con.execute(f"SET temp_directory = {_literal(folder)}")
        _create(con, snapshot, contracts.values())
    except BaseException:
        con.close()
        raise
    return con


def _create(con: duckdb.DuckDBPyConnection, snapshot: Snapshot, contracts: Iterable[MetricContract]) -> None:
    con.execute("SET enable_progress_bar = false; CREATE SCHEMA internal")
    names = {name for path in snapshot.parquet for name in (str(path), _as_pattern(path))}
    con.execute(f"SET allowed_paths = [{', '.join(map(_literal, sorted(names)))}]")
    con.execute("SET enable_external_access = false")
    con.register("tail_rows", snapshot.tail)
    rows, sample = _sources(snapshot)
    con.execute(f"CREATE VIEW internal.rows AS {rows}")
    con.execute(ERASED_AND_UNDELIVERED)
    # Conditions that every query would pay for are there only when they say something.
    erased, undelivered = (_count(con, f"internal.{name}") for name in ("erased", "undelivered"))
    not_erased = "event_id NOT IN (SELECT event_id FROM internal.erased)" if erased else "true"
    served = "event_id NOT IN (SELECT generation_id FROM internal.undelivered)" if undelivered else "true"
    con.execute(LOG_AND_GENERATIONS.format(columns=GENERATION_COLUMNS, not_erased=not_erased, served=served))
    con.execute(
        f"CREATE MACRO internal.sample_served(every) AS TABLE SELECT * FROM ({sample}) WHERE {not_erased} AND {served}"
    )
    coded = ", ".join(_code(con, column) for column in CODED_COLUMNS)
    con.execute(KEPT_ANSWERS.format(coded=coded))
    con.execute(
        "CREATE TABLE contracts "
        "(name VARCHAR, kind VARCHAR, lowest DOUBLE, highest DOUBLE, better VARCHAR, unit VARCHAR)"
    )
    told: list[tuple[Any, ...]] = [(c.name, c.kind, c.lowest, c.highest, c.better, c.unit) for c in contracts]
    if told:
        con.executemany("INSERT INTO contracts VALUES (?, ?, ?, ?, ?, ?)", told)
    decide_fates(con)
    con.execute(FEEDBACK_AND_SIGNALS)
    for schema in ("main", "internal"):
        con.execute(THUMBS_AND_RATINGS.format(schema=schema))
    con.execute(MACROS)


def _sources(snapshot: Snapshot) -> tuple[str, str]:
    """All rows; and the texts of answers in every k-th cluster of rows, for what need not read them all."""
    # By name, the tail first: a Parquet file that an older version wrote lacks columns, and the tail has them all.
    rows = "SELECT * FROM tail_rows"
    sample = f"SELECT {SAMPLED_COLUMNS} FROM tail_rows WHERE kind = 'generation'"
    if snapshot.parquet:
        files = ", ".join(_literal(_as_pattern(path)) for path in snapshot.parquet)
        options = "union_by_name = true, hive_partitioning = false"
        rows += f" UNION ALL BY NAME SELECT * FROM read_parquet([{files}], {options})"
        # The condition stands at the reader itself: only there are whole clusters skipped without decoding them.
        sample += (
            f" UNION ALL SELECT {SAMPLED_COLUMNS} FROM read_parquet([{files}], {options}, file_row_number = true) "
            f"WHERE kind = 'generation' AND (file_row_number // {CLUSTER_ROWS}) % every = 0"
        )
    return f"SELECT {', '.join(COLUMN_NAMES)} FROM ({rows})", sample


def _code(con: duckdb.DuckDBPyConnection, column: str) -> str:
    """The column as ENUM, if it has few values, as an expression; its type is made."""
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE codes AS SELECT DISTINCT {column} FROM internal.rows "
        f"WHERE kind = 'generation' AND {column} IS NOT NULL"
    )
    if _count(con, "codes") > MAX_CODES:
        return column
    con.execute(f"CREATE TYPE internal.{column}_code AS ENUM (SELECT {column} FROM codes)")
    return f"{column}::internal.{column}_code AS {column}"


def _count(con: duckdb.DuckDBPyConnection, table: str) -> int:
    row = con.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(row[0]) if row else 0


def _as_pattern(path: Path) -> str:
    """A pattern that this path alone matches: read_parquet takes every name for one."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in str(path))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
