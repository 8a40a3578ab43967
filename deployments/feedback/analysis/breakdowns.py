"""Sections of the report: quality, approval and collection by dimension and over time."""

from typing import Any

import duckdb

from deployments.feedback.analysis.cells import share_cell
from deployments.feedback.analysis.period import to_iso
from deployments.feedback.analysis.scoped import fetch_all
from deployments.feedback.analysis.sums import DIMENSIONS, ScopeSums, to_cell

MAX_VALUES = 24
"""Of one dimension, those with most answers; the rest is counted."""


def break_down(sums: ScopeSums) -> dict[str, Any]:
    """The cells of each dimension, most answers first.

    Quality and collection rate are of answers served, approval of the thumbs given, each in the scope.
    """
    dimensions = {}
    for name in DIMENSIONS:
        found = sorted(sums.by[name].items(), key=lambda item: (-item[1]["served"], -item[1]["thumbs"], item[0] or ""))
        dimensions[name] = {
            "cells": [{"value": value, **to_cell(cell)} for value, cell in found[:MAX_VALUES]],
            "more": max(len(found) - MAX_VALUES, 0),
        }
    return dimensions


def follow_time(sums: ScopeSums) -> list[dict[str, Any]]:
    """The cells of the time axis, in order; buckets without an answer or a thumb are left out."""
    return [{"start": to_iso(start), **to_cell(cell)} for start, cell in sorted(sums.by["bucket"].items())]


def sum_approval(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Approval of all thumbs, and by the name of the metric."""
    rows = fetch_all(
        con,
        "SELECT name, count(*) AS n, count(*) FILTER (approved) FROM scoped.thumbs GROUP BY name ORDER BY n DESC, name",
    )
    return {
        "all": share_cell(sum(row[2] for row in rows), sum(row[1] for row in rows)),
        "by_name": {name: share_cell(approved, n) for name, n, approved in rows},
    }
