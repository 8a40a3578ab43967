"""Turns findings into sub-scores and one total, all in 0..1.

Each finding belongs to one sub-score and multiplies it: a soft finding that stays by SOFT, one that was fixed by
FIXED, a hard one that stays by 0; notes cost nothing, since they are what the caller asked for. The total is
the mean of the sub-scores weighted with WEIGHTS, never above the lowest cap of the checks that still fail.

Factors are at most 1 and caps only lower, so one more finding never raises a score.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from deployments.validator.checks import (
    empty,
    json_schema,
    language,
    pii,
    prompt_leak,
    repetition,
    secrets,
    structure,
    truncation,
)
from graph.contracts import Finding

__all__ = ["DEFAULT_CAPS", "SUB_SCORES", "WEIGHTS", "score"]

SUB_SCORES: Mapping[str, str] = MappingProxyType(
    {
        secrets.NAME: "safety",
        pii.NAME: "safety",
        prompt_leak.NAME: "safety",
        empty.NAME: "completeness",
        truncation.NAME: "completeness",
        repetition.NAME: "repetition",
        language.NAME: "language",
        json_schema.NAME: "form",
        structure.NAME: "form",
    }
)
"""Which sub-score a check's findings lower."""
WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"form": 0.2, "language": 0.2, "completeness": 0.25, "repetition": 0.2, "safety": 0.15}
)
"""They add up to 1. Safety counts little in the mean because its caps decide."""
SOFT = 0.4
FIXED = 0.8
DEFAULT_CAPS: Mapping[str, float] = MappingProxyType(
    {
        secrets.NAME: 0.0,
        prompt_leak.NAME: 0.0,
        pii.NAME: 0.2,
        empty.NAME: 0.0,
        repetition.NAME: 0.4,
        language.NAME: 0.4,
        json_schema.NAME: 0.4,
    }
)
"""The most that the total can be while this check fails."""


def score(
    remaining: Iterable[Finding], fixed: Iterable[Finding] = (), caps: Mapping[str, float] = DEFAULT_CAPS
) -> tuple[dict[str, float], float]:
    """Scores a text by what its checks found.

    Args:
        remaining: Findings that stand in the text as it would be delivered.
        fixed: Findings that a local fix took away.
        caps: By the name of the check, the highest total while it fails.

    Returns:
        The sub-scores by name, in the order of WEIGHTS, and the total; all in 0..1.
    """
    sub_scores = dict.fromkeys(WEIGHTS, 1.0)
    cap = 1.0
    for finding in remaining:
        if finding.severity == "note":
            continue
        sub_scores[SUB_SCORES[finding.check]] *= 0.0 if finding.severity == "hard" else SOFT
        cap = min(cap, caps.get(finding.check, 1.0))
    for finding in fixed:
        if finding.severity != "note":
            sub_scores[SUB_SCORES[finding.check]] *= FIXED
    total = sum(WEIGHTS[name] * value for name, value in sub_scores.items())
    return sub_scores, min(cap, total, 1.0)
