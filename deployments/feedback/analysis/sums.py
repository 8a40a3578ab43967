"""Sums over answers and thumbs, by every dimension of the report. The sections make cells of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from deployments.feedback.analysis.cells import mean_cell, share_cell
from deployments.feedback.analysis.period import Bucket

DIMENSIONS = ("model", "adapter", "arm", "answer_format", "language", "prompt_template", "tenant")
"""By which quality and approval are shown."""
_COLUMNS = (*DIMENSIONS, "outcome", "failed_checks")
_MEASURES = (
    "served",
    "scored",
    "score_sum",
    "score_squares",
    "judged",
    "passed",
    "collected",
    "collected_explicit",
    "thumbs",
    "approved",
)
Sums = dict[str, Any]

_ANSWERS = """
    SELECT {key}, count(*) AS served, count(quality_score) AS scored, sum(quality_score) AS score_sum,
        sum(quality_score * quality_score) AS score_squares, count(passed) AS judged,
        count(*) FILTER (passed) AS passed, count(*) FILTER (rated) AS collected,
        count(*) FILTER (rated_explicit) AS collected_explicit
    FROM scoped.answers GROUP BY 1
"""
_THUMBS = "SELECT {key}, count(*) AS thumbs, count(*) FILTER (approved) AS approved FROM scoped.thumbs GROUP BY 1"


@dataclass(frozen=True, slots=True)
class ScopeSums:
    """What was summed of the scope's served answers and of its thumbs."""

    all: Sums
    by: Mapping[str, Mapping[Any, Sums]]
    """By dimension, outcome, failed_checks (JSON text) and bucket (its start, us), by value; None: no value."""


def sum_scope(con: duckdb.DuckDBPyConnection, bucket: Bucket) -> ScopeSums:
    """Return the sums; needs the schema ``scoped``."""
    # A query each: DuckDB takes twice as long for them as grouping sets of one.
    by = {name: _sum_by(con, name) for name in _COLUMNS}
    by["bucket"] = _sum_by(con, bucket.start_sql("ts_server_us"))
    total = _sum_by(con, "NULL").get(None, dict.fromkeys(_MEASURES, 0))
    return ScopeSums(total, by)


def to_cell(sums: Mapping[str, Any]) -> dict[str, Any]:
    """``{served, quality, approval}`` of one group, and ``collection`` where it was summed; JSON-ready."""
    cell = {
        "served": sums["served"],
        "quality": mean_cell(sums["scored"], sums["score_sum"], sums["score_squares"]),
        "approval": share_cell(sums["approved"], sums["thumbs"]),
    }
    return cell | ({"collection": share_cell(sums["collected"], sums["served"])} if "collected" in sums else {})


def _sum_by(con: duckdb.DuckDBPyConnection, key: str) -> dict[Any, Sums]:
    groups: dict[Any, Sums] = {}
    for sql in (_ANSWERS, _THUMBS):
        relation = con.execute(sql.format(key=key))
        measures = [column[0] for column in relation.description[1:]]
        for value, *sums in relation.fetchall():
            group = groups.setdefault(value, dict.fromkeys(_MEASURES, 0))
            group |= {name: each or 0 for name, each in zip(measures, sums, strict=True)}
    return groups
