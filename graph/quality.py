"""The ``quality`` object that answers, the log and ``/v1/validate`` share."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from graph.contracts import CHECK_FAILED, Finding, Outcome, Verdict
from graph.moves import Answer


def quality_of(answer: Answer) -> dict[str, Any]:
    """``{"outcome", "score", "scores", "findings"}``, JSON-ready; scores rounded to four places."""
    return _quality(answer.outcome, answer.score, answer.scores, answer.findings)


def quality_of_verdict(verdict: Verdict) -> dict[str, Any]:
    """The same of a text that was only judged; nothing is written again, and nothing stands in for it."""
    outcome = outcome_of(verdict)
    score = None if outcome == "unvalidated" else 0.0 if outcome == "blocked" else verdict.score
    return _quality(outcome, score, verdict.scores, verdict.findings)


def outcome_of(verdict: Verdict) -> Outcome:
    """The outcome of a text that nobody writes again."""
    match verdict.action:
        case "block" | "regenerate" | "fallback":
            return "blocked" if resort_of(verdict) == "block" else "degraded"
        case "deliver" | "fix" as action:
            if verdict.is_degraded:
                return "degraded"
            if any(map(is_crash, verdict.findings)):
                return "unvalidated"
            return "pass" if action == "deliver" else "fixed"


def resort_of(verdict: Verdict) -> Literal["deliver", "fallback", "block"]:
    """What becomes of a text that is not good and that nobody writes again."""
    return verdict.action if verdict.action in ("fallback", "block") else verdict.last_resort


_ACTION_RANK = {"deliver": 0, "fix": 1, "regenerate": 3, "fallback": 4, "block": 5}
_DEGRADED_RANK = 2


def worth(verdict: Verdict) -> tuple[int, float]:
    """Of two texts the better is the one with the greater worth: the milder action, then the higher score."""
    return -max(_ACTION_RANK[verdict.action], _DEGRADED_RANK if verdict.is_degraded else 0), verdict.score


def is_crash(finding: Finding) -> bool:
    """Whether a check that fails open could not run: then nobody knows what it would have found."""
    return finding.severity == "note" and finding.message.startswith(CHECK_FAILED)


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding as the API shows it."""
    return {
        "check": finding.check,
        "severity": finding.severity,
        "action": finding.action,
        "span": None if finding.span is None else list(finding.span),
        "message": finding.message,
    }


def _quality(
    outcome: Outcome, score: float | None, scores: Mapping[str, float], findings: Sequence[Finding]
) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "score": None if score is None else round(score, 4),
        "scores": {name: round(value, 4) for name, value in scores.items()},
        "findings": [finding_json(finding) for finding in findings],
    }
