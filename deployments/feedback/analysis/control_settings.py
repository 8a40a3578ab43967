"""Sections of the report by control setting: dials in five bands, switches by value; and how they are used over time.

Settings are JSON in the log. Answers and thumbs are first summed by the whole text, of which there are far fewer
than answers, and only those texts are opened.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb

from deployments.feedback.analysis.period import Scope
from deployments.feedback.analysis.scoped import fetch_all
from deployments.feedback.analysis.sums import to_cell

BANDS = ("0-19", "20-39", "40-59", "60-79", "80-100")
MAX_VALUES = 24
"""Of one switch, those with most answers."""

_SUM = """
    WITH opinions AS (
        SELECT answer_row, count(*) AS thumbs, count(*) FILTER (approved) AS approved
        FROM scoped.thumbs GROUP BY answer_row
    ), texts AS MATERIALIZED (
        -- Materialised, or the check for JSON below would run on each answer instead of each text.
        -- BIGINT, for a sum of counts is a HUGEINT, which is slow to sum again.
        SELECT settings AS text, count(*) FILTER (served AND {in_scope}) AS served,
            count(quality_score) FILTER (served AND {in_scope}) AS scored,
            sum(quality_score) FILTER (served AND {in_scope}) AS score_sum,
            sum(quality_score * quality_score) FILTER (served AND {in_scope}) AS score_squares,
            sum(o.thumbs)::BIGINT AS thumbs, sum(o.approved)::BIGINT AS approved,
            count(*) FILTER (served AND {before}) AS before, count(*) FILTER (served AND {after}) AS after
        FROM internal.answers a LEFT JOIN opinions o ON o.answer_row = a.rowid
        WHERE settings IS NOT NULL AND (({in_scope}) OR ({before}) OR ({after}) OR o.thumbs > 0) GROUP BY settings
    )
    SELECT key, value, sum(served), sum(scored), sum(score_sum), sum(score_squares), sum(thumbs), sum(approved),
        sum(before), sum(after)
    FROM (
        -- Both lists are in the order of the text. Five times as fast as json_each, which makes a row of ten columns.
        SELECT * EXCLUDE (text), unnest(json_keys(text)) AS key, unnest(json_extract(text, '$.*'))::VARCHAR AS value
        FROM texts WHERE CASE WHEN json_valid(text) THEN json_type(text) = 'OBJECT' ELSE false END
    ) GROUP BY key, value
"""
_COLUMNS = ("served", "scored", "score_sum", "score_squares", "thumbs", "approved", "before", "after")


@dataclass(frozen=True, slots=True)
class Setting:
    """One dial or switch, and what was summed of each of its bands or values."""

    name: str
    is_dial: bool
    groups: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """By band, in their order, or by value, most answers first. ``before`` and ``after`` count answers of two spans."""


def sum_settings(con: duckdb.DuckDBPyConnection, scope: Scope, before: Scope, after: Scope) -> list[Setting]:
    """Return every dial and switch of the scope's answers, dials first, each kind by name.

    Args:
        con: With the schema ``scoped`` open on ``scope``.
        scope: Of the report.
        before, after: The two spans that drift compares; they may lie outside of the scope.
    """
    sql = _SUM.format(in_scope=scope.predicate(), before=before.predicate(), after=after.predicate())
    found: dict[str, dict[str, dict[str, Any]]] = {}
    numeric: dict[str, bool] = {}
    for name, value, *sums in fetch_all(con, sql):
        number = _number(value)
        numeric[name] = numeric.get(name, True) and number is not None
        found.setdefault(name, {})[value] = dict(zip(_COLUMNS, sums, strict=True))
    settings = []
    for name in sorted(found, key=lambda name: (not numeric[name], name)):
        if numeric[name]:
            by_band = [(band_of(number), sums) for v, sums in found[name].items() if (number := _number(v)) is not None]
            groups = {band: _add(s for b, s in by_band if b == band) for band in BANDS}
        else:
            by_value = {_plain(value): _add([sums]) for value, sums in found[name].items()}
            groups = dict(sorted(by_value.items(), key=lambda item: (-item[1]["served"], item[0])))
        settings.append(Setting(name, numeric[name], groups))
    return settings


def setting_cells(setting: Setting) -> dict[str, Any]:
    """``{name, type, cells, more}``, JSON-ready."""
    groups = list(setting.groups.items())
    return {
        "name": setting.name,
        "type": "dial" if setting.is_dial else "switch",
        "cells": [{"value": value, **to_cell(sums)} for value, sums in groups[:MAX_VALUES]],
        "more": max(len(groups) - MAX_VALUES, 0),
    }


def band_of(level: float) -> str:
    """Return the band of a dial's level; a level outside 0 to 100 counts to the nearest."""
    return BANDS[min(max(int(level // 20), 0), 4)]


def _number(value: str) -> float | None:
    """The number that this JSON text is; None: it is another thing, such as a quoted word."""
    try:
        return float(value)
    except ValueError:
        return None


def _plain(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _add(groups: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    sums = dict.fromkeys(_COLUMNS, 0)
    for group in groups:
        for name in _COLUMNS:
            sums[name] += group[name] or 0
    return sums
