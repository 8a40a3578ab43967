"""The checks, one file each, and the table that names them all.

To add one: a file with NAME, SEVERITY and ``check(text, context, thresholds)``, a hard one also with LOOK_BACK
and ``watch`` (see ``deployments/validator/watch.py``); a line in CHECKS; a field in ``policy.CheckPolicies``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from deployments.validator.thresholds import Thresholds
from deployments.validator.watch import Watch
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["CHECKS", "Check", "load_models"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check as the policy and the guard see it."""

    name: str
    severity: Severity
    run: Callable[[str, CheckContext, Thresholds], tuple[Finding, ...]]
    watch: Watch | None = None
    """For streams; every hard check has one."""
    look_back: int = 0
    """The most characters that a stream must hold for it."""


_ALL = (
    Check(secrets.NAME, secrets.SEVERITY, secrets.check, secrets.watch, secrets.LOOK_BACK),
    Check(pii.NAME, pii.SEVERITY, pii.check, pii.watch, pii.LOOK_BACK),
    Check(prompt_leak.NAME, prompt_leak.SEVERITY, prompt_leak.check, prompt_leak.watch, prompt_leak.LOOK_BACK),
    Check(empty.NAME, empty.SEVERITY, empty.check),
    Check(truncation.NAME, truncation.SEVERITY, truncation.check),
    Check(repetition.NAME, repetition.SEVERITY, repetition.check),
    Check(language.NAME, language.SEVERITY, language.check),
    Check(json_schema.NAME, json_schema.SEVERITY, json_schema.check),
    Check(structure.NAME, structure.SEVERITY, structure.check),
)
CHECKS: Mapping[str, Check] = MappingProxyType({check.name: check for check in _ALL})
"""Every check by name, hard ones first: the order in which findings are listed."""


def load_models() -> None:
    """Loads what a check would otherwise load at its first text.

    Raises:
        Exception: Whatever the library raises. Call it at start-up and let it stop the start.
    """
    language.load_detector()
