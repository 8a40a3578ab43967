"""Rows of the log as the API shows them, and what later events made of a piece of feedback. Pure.

What counts in reports is decided in ``deployments/feedback/analysis``, by the same rules; this tells it for one answer.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deployments.feedback.fields import to_iso
from deployments.feedback.schema import FEEDBACK_KINDS

Row = Mapping[str, Any]
_VALUES = ("value_bool", "value_num", "value_str")
_JSON_PARTS = ("controls", "settings", "quality", "timings", "versions")


def feedback_rows(rows: Iterable[Row], tenant: str) -> list[Row]:
    """Those of ``rows`` that the tenant said, in their order."""
    return [row for row in rows if row["tenant"] == tenant and row["kind"] in FEEDBACK_KINDS]


def event_json(row: Row, about: Sequence[Row]) -> dict[str, Any]:
    """One piece of feedback as it was sent, and its state.

    Args:
        about: All feedback of its tenant about the same answer.

    Returns:
        ``state`` is active, retracted or superseded; then ``superseded_by`` is the latest event that replaced it.
    """
    replacing = replacements_of(row, about)
    is_retracted = row["event_id"] in _retracted(about)
    return {
        "event_id": row["event_id"],
        "generation_id": row["generation_id"],
        "other_generation_id": row["other_generation_id"],
        "kind": row["kind"],
        "name": row["name"],
        "value": value_of(row),
        "text": row["text"],
        "tags": _parse(row["tags"]),
        "supersedes": row["supersedes"],
        "source_type": row["source_type"],
        "rater_hash": row["source_id"],
        "model": row["model"],
        "adapter": row["adapter"],
        "arm": row["arm"],
        "sent_at": None if row["ts_client_us"] is None else to_iso(row["ts_client_us"]),
        "received_at": to_iso(row["ts_server_us"]),
        "state": "retracted" if is_retracted else "superseded" if replacing else "active",
        "superseded_by": replacing[-1]["event_id"] if replacing else None,
    }


def generation_json(row: Row, about: Sequence[Row], *, is_delivered: bool) -> dict[str, Any]:
    """One answer's record with the feedback about it."""
    return {
        "id": row["generation_id"],
        "model": row["model"],
        "adapter": row["adapter"],
        "arm": row["arm"],
        "prompt": _parse(row["prompt"]),
        "answer": row["answer"],
        "outcome": row["outcome"],
        "delivered": is_delivered,
        "quality_score": row["quality_score"],
        "failed_checks": _parse(row["failed_checks"]),
        "answer_format": row["answer_format"],
        "language": row["language"],
        "controls_hash": row["controls_hash"],
        **{name: _parse(row[name]) for name in _JSON_PARTS},
        "created_at": to_iso(row["ts_server_us"]),
        "feedback": [event_json(each, about) for each in about],
    }


def replacements_of(row: Row, about: Sequence[Row]) -> list[Row]:
    """Supersedes of ``row``, also through other supersedes, that were not retracted; the latest last."""
    retracted = _retracted(about)
    supersedes = [each for each in about if each["kind"] == "supersede"]
    reached = {row["event_id"]}
    found: list[Row] = []
    grown = True
    while grown:
        # A later event may be written before the one that it names is: until nothing new is reached.
        new = [each for each in supersedes if each["supersedes"] in reached and each["event_id"] not in reached]
        reached |= {each["event_id"] for each in new}
        found += new
        grown = bool(new)
    standing = (each for each in found if each["event_id"] not in retracted)
    return sorted(standing, key=lambda each: (each["ts_server_us"], each["event_id"]))


def value_of(row: Row) -> bool | float | str | None:
    """The value, from whichever column it is in."""
    return next((row[name] for name in _VALUES if row[name] is not None), None)


def _retracted(about: Sequence[Row]) -> set[str]:
    return {each["supersedes"] for each in about if each["kind"] == "retract"}


def _parse(text: str | None) -> Any:
    return None if text is None else json.loads(text)
