"""Estimates as they stand in the report: plain JSON, with n, interval, and a mark on small ones. Pure."""

import json
from typing import Any

from deployments.feedback.analysis.statistics import mean_interval, wilson

SMALL_N = 20
"""Below it an estimate is marked ``small``: shown pale, and not to be compared."""

Cell = dict[str, Any]


def share_cell(count: int, n: int) -> Cell:
    """``{count, n, share, low, high, small}``, Wilson's 95% interval; the three are null without trials."""
    estimate = wilson(count, n)
    cell: Cell = {"count": count, "n": n, "share": None, "low": None, "high": None, "small": n < SMALL_N}
    if estimate is not None:
        cell |= {"share": _round(estimate.value), "low": _round(estimate.low), "high": _round(estimate.high)}
    return cell


def mean_cell(n: int, total: float | None, squares: float | None) -> Cell:
    """``{n, mean, low, high, small}``, normal 95% interval; from the values' sum and sum of squares."""
    estimate = mean_interval(n, total or 0.0, squares or 0.0)
    cell: Cell = {"n": n, "mean": None, "low": None, "high": None, "small": n < SMALL_N}
    if estimate is not None:
        cell |= {"mean": _round(estimate.value), "low": _round(estimate.low), "high": _round(estimate.high)}
    return cell


def check_names(text: str | None) -> list[str]:
    """The names in a row's ``failed_checks``; empty for what is no JSON list."""
    try:
        names = json.loads(text or "[]")
    except ValueError:
        return []
    return sorted({str(name) for name in names}) if isinstance(names, list) else []


def _round(value: float) -> float:
    # Six places: more than any log can tell, and sums of floats in another order give the same text.
    return round(value, 6)
