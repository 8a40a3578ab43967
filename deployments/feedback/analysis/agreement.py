"""Sections of the report: do people and validators agree, and does the score foretell approval?"""

from typing import Any

import duckdb

from deployments.feedback.analysis.cells import check_names, share_cell
from deployments.feedback.analysis.scoped import fetch_all, fetch_one
from deployments.feedback.analysis.statistics import CalibrationBin, Confusion, expected_calibration_error, kappa

LISTED = 10
"""Answers shown of each kind of disagreement."""
CALIBRATION_BINS = 10
_DISAGREEMENTS = {
    "liked_but_failed": "approved AND NOT passed",
    "disliked_but_passed": "NOT approved AND passed",
}


def compare_with_validators(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """The confusion table of thumbs and verdicts, Cohen's kappa, and the newest answers on which they disagree.

    Thumbs on answers without a verdict are left out and counted.
    """
    liked_passed, liked_failed, disliked_passed, disliked_failed, unjudged = fetch_one(
        con,
        "SELECT count(*) FILTER (approved AND passed), count(*) FILTER (approved AND NOT passed), "
        "count(*) FILTER (NOT approved AND passed), count(*) FILTER (NOT approved AND NOT passed), "
        "count(*) FILTER (passed IS NULL) FROM scoped.thumbs",
    )
    table = Confusion(liked_passed, liked_failed, disliked_passed, disliked_failed)
    estimate = kappa(table)
    return {
        "n": table.n,
        "without_verdict": unjudged,
        "confusion": {
            "liked": {"passed": liked_passed, "failed": liked_failed},
            "disliked": {"passed": disliked_passed, "failed": disliked_failed},
        },
        "agreement": share_cell(liked_passed + disliked_failed, table.n),
        "kappa": {
            "value": None if estimate is None else round(estimate.value, 6),
            "low": None if estimate is None else round(estimate.low, 6),
            "high": None if estimate is None else round(estimate.high, 6),
        },
        **{name: _list(con, condition) for name, condition in _DISAGREEMENTS.items()},
    }


def calibrate(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Share of thumbs up by the answer's quality score, in ten bins of equal width, and the expected error."""
    rows = fetch_all(
        con,
        f"SELECT least(greatest(floor(quality_score * {CALIBRATION_BINS}), 0), {CALIBRATION_BINS - 1})::INT AS bin, "
        "count(*), avg(quality_score), count(*) FILTER (approved) "
        "FROM scoped.thumbs WHERE quality_score IS NOT NULL GROUP BY bin ORDER BY bin",
    )
    error = expected_calibration_error([CalibrationBin(n, mean, up) for _, n, mean, up in rows])
    return {
        "n": sum(row[1] for row in rows),
        "expected_calibration_error": None if error is None else round(error, 6),
        "bins": [
            {
                "from": place / CALIBRATION_BINS,
                "to": (place + 1) / CALIBRATION_BINS,
                "mean_score": round(mean, 6),
                "approval": share_cell(up, n),
            }
            for place, n, mean, up in rows
        ],
    }


def _list(con: duckdb.DuckDBPyConnection, condition: str) -> list[dict[str, Any]]:
    rows = fetch_all(
        con,
        "SELECT generation_id, event_id, tenant, model, outcome, failed_checks, quality_score FROM scoped.thumbs "
        f"WHERE {condition} ORDER BY ts_server_us DESC, event_id DESC LIMIT {LISTED}",
    )
    names = ("generation_id", "event_id", "tenant", "model", "outcome", "failed_checks", "quality_score")
    return [{**dict(zip(names, row, strict=True)), "failed_checks": check_names(row[5])} for row in rows]
