"""The checks, one file each, and the table that names them all.

To add one: a file with NAME, SEVERITY and ``check(text, context, thresholds)``, a hard one also with LOOK_BACK
and ``watch`` (see ``deployments/validator/watch.py``); a line in CHECKS; a field in ``policy.CheckPolicies``; its
sub-score in ``scores.SUB_SCORES``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

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
from deployments.validator.fragments import load_counts
from deployments.validator.thresholds import Thresholds
from deployments.validator.watch import Watch
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["CHECKS", "Check", "Tier", "load_models"]


Tier = Literal[0, 1, 2]
"""What a check costs on 300 words: 0 at most 3 ms with all of its tier, 1 at most 20 ms, 2 a model's pass (60 ms)."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check as the policy and the guard see it."""

    name: str
    severity: Severity
    run: Callable[[str, CheckContext, Thresholds], tuple[Finding, ...]]
    watch: Watch | None = None
    """For streams; every hard check has one."""
    look_back: int = 0
    """The most characters that a stream holds for it until it is decided, and a 32nd more between two looks of the
    guard. True of ordinary text, and for planning: one space between words of at most 20 characters, and longer runs
    only where they are a value. What is held is words and values, however far apart they stand; more is held of
    values that overlap, and of a leak that the policy only notes, which is held to its end."""
    tier: Tier = 0
    grade: Callable[[str, CheckContext, Thresholds], float | None] | None = None
    """Where a check can say by how much: what its sub-score is multiplied by, 0 to 1, whether it found something or
    not; None: not to be measured on this text."""


_ALL = (
    Check(secrets.NAME, secrets.SEVERITY, secrets.check, secrets.watch, secrets.LOOK_BACK),
    Check(pii.NAME, pii.SEVERITY, pii.check, pii.watch, pii.LOOK_BACK),
    Check(prompt_leak.NAME, prompt_leak.SEVERITY, prompt_leak.check, prompt_leak.watch, prompt_leak.LOOK_BACK),
    Check(near_leak.NAME, near_leak.SEVERITY, near_leak.check, near_leak.watch, near_leak.LOOK_BACK, tier=1),
    Check(empty.NAME, empty.SEVERITY, empty.check),
    Check(truncation.NAME, truncation.SEVERITY, truncation.check),
    Check(repetition.NAME, repetition.SEVERITY, repetition.check, grade=repetition.grade),
    Check(language.NAME, language.SEVERITY, language.check, grade=language.grade),
    Check(json_schema.NAME, json_schema.SEVERITY, json_schema.check),
    Check(structure.NAME, structure.SEVERITY, structure.check),
    Check(nonwords.NAME, nonwords.SEVERITY, nonwords.check, tier=1, grade=nonwords.grade),
    Check(relevance.NAME, relevance.SEVERITY, relevance.check, tier=2, grade=relevance.grade),
    Check(control_fit.NAME, control_fit.SEVERITY, control_fit.check, grade=control_fit.grade),
    Check(readability.NAME, readability.SEVERITY, readability.check, tier=1, grade=readability.grade),
    Check(refusal.NAME, refusal.SEVERITY, refusal.check),
    Check(profanity.NAME, profanity.SEVERITY, profanity.check, tier=1),
)
CHECKS: Mapping[str, Check] = MappingProxyType({check.name: check for check in _ALL})
"""Every check by name, hard ones first: the order in which findings are listed."""


def load_models() -> None:
    """Loads what a check would otherwise load at its first text.

    Raises:
        Exception: Whatever the library raises. Call it at start-up and let it stop the start.
    """
    language.load_detector()
    nonwords.load_words()
    readability.load_levels()
    load_counts()
