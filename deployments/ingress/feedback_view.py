"""Rows of the log as the API shows them, and what later events made of a piece of feedback. Pure.

What counts in reports is decided in ``deployments/feedback/analysis``, by the same rules; this tells it for one answer.
"""

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from deployments.feedback.fields import to_iso
from deployments.feedback.schema import FEEDBACK_KINDS

MAX_SHOWN = 1000
"""Pieces of feedback in an answer's record."""
Row = Mapping[str, Any]
_VALUES = ("value_bool", "value_num", "value_str")
_JSON_PARTS = ("controls", "settings", "quality", "timings", "versions")


def feedback_rows(rows: Iterable[Row], tenant: str) -> list[Row]:
    """Those of ``rows`` that the tenant said, in their order."""
    return [row for row in rows if row["tenant"] == tenant and row["kind"] in FEEDBACK_KINDS]


@dataclass(frozen=True, slots=True)
class Fates:
    """What retracts and supersedes made of the feedback about one answer. Keys are (generation_id, event_id).

    With the generation, because a preference is shown with both its answers, and what acts on it speaks of one.
    """

    retracted: Set[tuple[str, str]]
    replaced_by: Mapping[tuple[str, str], str]
    """event_id of the latest supersede that was not retracted, also through other supersedes."""


def fates_of(about: Sequence[Row]) -> Fates:
    """Computed once for all of ``about``: n log n.

    Args:
        about: All feedback of one tenant about one answer.
    """
    retracted = {_target(each) for each in about if each["kind"] == "retract"}
    target_of = {_key(each): _target(each) for each in about if each["kind"] == "supersede"}
    standing = [each for each in about if each["kind"] == "supersede" and _key(each) not in retracted]
    replaced_by: dict[tuple[str, str], str] = {}
    for each in sorted(standing, key=_said_at, reverse=True):
        replaced: tuple[str, str] | None = _target(each)
        # Latest first: what has one already has a later one, and so has all that it replaces in turn.
        while replaced is not None and replaced not in replaced_by and replaced != _key(each):
            replaced_by[replaced] = each["event_id"]
            replaced = target_of.get(replaced)
    return Fates(retracted, replaced_by)


def event_json(row: Row, about: Sequence[Row]) -> dict[str, Any]:
    """One piece of feedback as it was sent, and its state.

    Args:
        about: All feedback of its tenant about the same answer.

    Returns:
        ``state`` is active, retracted or superseded; then ``superseded_by`` is the latest event that replaced it.
    """
    return _with_state(row, fates_of(about))


def _with_state(row: Row, fates: Fates) -> dict[str, Any]:
    superseded_by = fates.replaced_by.get(_key(row))
    is_taken_back = _key(row) in fates.retracted
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
        "state": "retracted" if is_taken_back else "superseded" if superseded_by else "active",
        "superseded_by": superseded_by,
    }


def generation_json(row: Row, about: Sequence[Row], *, is_delivered: bool) -> dict[str, Any]:
    """One answer's record with the feedback about it: the newest `MAX_SHOWN`, and how many there are.

    Args:
        about: All feedback of its tenant, in order of time.
    """
    fates = fates_of(about)
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
        "feedback": [_with_state(each, fates) for each in about[-MAX_SHOWN:]],
        "feedback_total": len(about),
    }


def is_retracted(row: Row, about: Sequence[Row]) -> bool:
    """Whether feedback among ``about`` takes ``row`` back."""
    return any(each["kind"] == "retract" and _target(each) == _key(row) for each in about)


def replacements_of(row: Row, about: Sequence[Row]) -> list[Row]:
    """Supersedes of ``row``, also through other supersedes, that were not retracted; the latest last."""
    retracted = {_target(each) for each in about if each["kind"] == "retract"}
    naming: dict[tuple[str, str], list[Row]] = {}
    for each in about:
        if each["kind"] == "supersede":
            naming.setdefault(_target(each), []).append(each)
    found: list[Row] = []
    reached = [row]
    while reached:
        # Taken out, so that a circle ends.
        new = naming.pop(_key(reached.pop()), [])
        found += new
        reached += new
    return sorted((each for each in found if _key(each) not in retracted), key=_said_at)


def value_of(row: Row) -> bool | float | str | None:
    """The value, from whichever column it is in."""
    return next((row[name] for name in _VALUES if row[name] is not None), None)


def _key(row: Row) -> tuple[str, str]:
    return row["generation_id"], row["event_id"]


def _target(row: Row) -> tuple[str, str]:
    """What a retract or supersede names: it acts on its own answer's feedback only."""
    return row["generation_id"], row["supersedes"]


def _said_at(row: Row) -> tuple[int, str]:
    return row["ts_server_us"], row["event_id"]


def _parse(text: str | None) -> Any:
    return None if text is None else json.loads(text)
