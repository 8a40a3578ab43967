"""The ``quality`` object that answers, the log and ``/v1/validate`` share."""

from typing import Any

from graph.contracts import Finding
from graph.moves import Answer


def quality_of(answer: Answer) -> dict[str, Any]:
    """``{"outcome", "score", "scores", "findings"}``, JSON-ready; scores rounded to four places."""
    return {
        "outcome": answer.outcome,
        "score": None if answer.score is None else round(answer.score, 4),
        "scores": {name: round(value, 4) for name, value in answer.scores.items()},
        "findings": [finding_json(finding) for finding in answer.findings],
    }


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding as the API shows it."""
    return {
        "check": finding.check,
        "severity": finding.severity,
        "action": finding.action,
        "span": None if finding.span is None else list(finding.span),
        "message": finding.message,
    }
