"""Turns findings into sub-scores and one total, all in 0..1.

Each finding belongs to one sub-score and multiplies it: a soft finding that stays by SOFT, one that was fixed by
FIXED, a hard one that stays by 0; notes cost nothing, since they are told and not held against an answer. Where a
check grades the text, its grade multiplies the sub-score, also when it found nothing; beside a soft finding it counts
for no more than SOFT. The total is the mean of the sub-scores weighted with WEIGHTS, never above the lowest cap of the
checks that still fail:

    total = min(caps of failing checks, 0.15 form + 0.15 language + 0.15 relevance + 0.2 completeness
                                        + 0.15 repetition + 0.1 safety + 0.1 control_fit)

Factors are at most 1 and caps only lower, so one more finding never raises a score.

What a grade is 1 for, and where it is SOFT (in between and beyond, a straight line; see ``grades``):

    relevance    cosine 0.25 above ``thresholds.relevance`` and more; at that threshold
    repetition   no passage that stood before; at ``duplicate_share``, or ``verse_duplicate_share`` of verse and lists
    language     nothing in another language; at ``foreign_share``
    nonwords     two fifths of ``nonword_share`` and less, or two words; at that share
    readability  inside the range that was promised; ``reading_level_distance`` beyond it
    control_fit  the promised length; 1 - abs(ln(words / promised words)), which is SOFT at 1.8 times the length
"""

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from deployments.validator.checks import (
    control_fit,
    empty,
    json_schema,
    language,
    near_leak,
    nonwords,
    pii,
    profanity,
    prompt_leak,
    readability,
    refusal,
    relevance,
    repetition,
    secrets,
    structure,
    truncation,
)
from deployments.validator.grades import SOFT
from graph.contracts import Finding

__all__ = ["DEFAULT_CAPS", "SLOT_SUB_SCORES", "SUB_SCORES", "WEIGHTS", "score"]

SUB_SCORES: Mapping[str, str] = MappingProxyType(
    {
        secrets.NAME: "safety",
        pii.NAME: "safety",
        prompt_leak.NAME: "safety",
        near_leak.NAME: "safety",
        empty.NAME: "completeness",
        truncation.NAME: "completeness",
        repetition.NAME: "repetition",
        language.NAME: "language",
        json_schema.NAME: "form",
        structure.NAME: "form",
        nonwords.NAME: "language",
        relevance.NAME: "relevance",
        refusal.NAME: "relevance",
        control_fit.NAME: "control_fit",
        readability.NAME: "control_fit",
        profanity.NAME: "safety",
    }
)
"""Which sub-score a check's findings lower."""
SLOT_SUB_SCORES: Mapping[str, str] = MappingProxyType({"text": "safety", "pair": "relevance"})
"""The same of a model slot by its kind: alone, an answer can be harmful; beside its sources, beside the point."""
WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "form": 0.15,
        "language": 0.15,
        "relevance": 0.15,
        "completeness": 0.2,
        "repetition": 0.15,
        "safety": 0.1,
        "control_fit": 0.1,
    }
)
"""They add up to 1. Safety counts little in the mean because its caps decide."""
FIXED = 0.8
DEFAULT_CAPS: Mapping[str, float] = MappingProxyType(
    {
        secrets.NAME: 0.0,
        prompt_leak.NAME: 0.0,
        near_leak.NAME: 0.0,
        pii.NAME: 0.2,
        empty.NAME: 0.0,
        repetition.NAME: 0.4,
        language.NAME: 0.4,
        json_schema.NAME: 0.4,
        nonwords.NAME: 0.4,
        relevance.NAME: 0.4,
    }
)
"""The most that the total can be while this check fails."""


def score(
    remaining: Iterable[Finding],
    fixed: Iterable[Finding] = (),
    caps: Mapping[str, float] = DEFAULT_CAPS,
    grades: Mapping[str, float] = MappingProxyType({}),
    belongs_to: Mapping[str, str] = SUB_SCORES,
) -> tuple[dict[str, float], float]:
    """Scores a text by what its checks found.

    Args:
        remaining: Findings that stand in the text as it would be delivered.
        fixed: Findings that a local fix took away.
        caps: By the name of the check, the highest total while it fails.
        grades: By the name of the check, how well the text does by its measure, in 0..1.
        belongs_to: By the name of the check, its sub-score; every check that has a finding is there.

    Returns:
        The sub-scores by name, in the order of WEIGHTS, and the total; all in 0..1.
    """
    sub_scores = dict.fromkeys(WEIGHTS, 1.0)
    cap = 1.0
    objecting: set[str] = set()
    for finding in remaining:
        if finding.severity == "note":
            continue
        if finding.severity == "soft" and finding.check in grades:
            objecting.add(finding.check)
        else:
            sub_scores[belongs_to[finding.check]] *= 0.0 if finding.severity == "hard" else SOFT
        cap = min(cap, caps.get(finding.check, 1.0))
    for finding in fixed:
        if finding.severity != "note":
            sub_scores[belongs_to[finding.check]] *= FIXED
    for name, grade in grades.items():
        sub_scores[belongs_to[name]] *= min(grade, SOFT) if name in objecting else grade
    # Added up exactly: seven decimal weights otherwise make 0.9999999999999999.
    total = math.fsum(WEIGHTS[name] * value for name, value in sub_scores.items())
    return sub_scores, min(cap, total, 1.0)
