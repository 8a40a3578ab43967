"""Section of the report: has the traffic changed? Population stability of scores, lengths and settings."""

from collections.abc import Sequence
from typing import Any

import duckdb

from deployments.feedback.analysis.control_settings import Setting
from deployments.feedback.analysis.period import Scope, to_iso
from deployments.feedback.analysis.scoped import fetch_all, fetch_one
from deployments.feedback.analysis.statistics import histogram, population_stability, quantile_edges

NOTABLE_PSI = 0.1
LARGE_PSI = 0.25
LENGTHS_SAMPLE = 50_000
"""Above so many answers, lengths are of every k-th cluster of rows of the archive: texts are most of its bytes."""


def choose_spans(con: duckdb.DuckDBPyConnection, scope: Scope, baseline_us: int | None) -> tuple[Scope, Scope]:
    """Return the spans to compare: the scope's halves in time, or what lies between the baseline and the scope first.

    Args:
        con: With the schema ``scoped`` open on ``scope``.
        scope: Of the report.
        baseline_us: Where the earlier span begins; it ends where the scope begins.
    """
    if baseline_us is not None and scope.since_us is not None:
        return Scope(baseline_us, scope.since_us, scope.tenant), scope
    first, last = fetch_one(con, "SELECT min(ts_server_us), max(ts_server_us) FROM scoped.answers")
    if first is None:
        return scope, scope
    middle = (first + last + 1) // 2
    return Scope(first, middle, scope.tenant), Scope(middle, last + 1, scope.tenant)


def measure_drift(
    con: duckdb.DuckDBPyConnection, before: Scope, after: Scope, settings: Sequence[Setting], served: int
) -> dict[str, Any]:
    """The index of each measure and setting between the two spans, largest first.

    Measures are cut at the deciles of the earlier span; dials count in their five bands, switches by value.
    """
    every = max(served // LENGTHS_SAMPLE, 1)
    items = [
        # Rounded, so that the values are few; a bin of the index is far wider.
        _measure(con, "quality score", "round(quality_score, 3)", "internal.answers WHERE served", before, after),
        _measure(con, "answer length", "length(answer)", f"internal.sample_served({every}) WHERE true", before, after),
    ]
    for setting in settings:
        groups = setting.groups.values()
        kind = "dial" if setting.is_dial else "switch"
        items.append(_item(setting.name, kind, [g["before"] for g in groups], [g["after"] for g in groups]))
    items.sort(key=lambda item: -1.0 if item["psi"] is None else item["psi"], reverse=True)
    return {
        "before": {"since": to_iso(before.since_us), "until": to_iso(before.until_us)},
        "after": {"since": to_iso(after.since_us), "until": to_iso(after.until_us)},
        "notable": NOTABLE_PSI,
        "large": LARGE_PSI,
        "items": items,
    }


def _measure(
    con: duckdb.DuckDBPyConnection, name: str, expression: str, source: str, before: Scope, after: Scope
) -> dict[str, Any]:
    rows = fetch_all(
        con,
        f"SELECT {expression} AS value, count(*) FILTER ({before.predicate()}), count(*) FILTER ({after.predicate()}) "
        f"FROM {source} AND value IS NOT NULL AND (({before.predicate()}) OR ({after.predicate()})) GROUP BY value",
    )
    counts: tuple[dict[float, int], dict[float, int]] = ({}, {})
    for value, *both in rows:
        for counted, count in zip(counts, both, strict=True):
            if count:
                counted[float(value)] = count
    edges = quantile_edges(counts[0])
    return _item(name, "measure", histogram(counts[0], edges), histogram(counts[1], edges))


def _item(name: str, kind: str, before: Sequence[int], after: Sequence[int]) -> dict[str, Any]:
    drift = population_stability(before, after)
    return {
        "name": name,
        "kind": kind,
        "n_before": sum(before),
        "n_after": sum(after),
        "psi": None if drift is None else round(drift.psi, 6),
        "by_chance": None if drift is None else round(drift.by_chance, 6),
    }
