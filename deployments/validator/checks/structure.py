"""Tells whether an answer has the form of numbered steps or of bullets that was asked for."""

import re

from deployments.validator.code_blocks import blank_code
from deployments.validator.thresholds import DEFAULTS, Thresholds
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "check"]

NAME = "structure"
SEVERITY: Severity = "soft"

_STEP = re.compile(r"[ ]{0,3}(?:\*\*|__)?(?:Step[ ])?(\d{1,3})[.):](?=[\s*_])", re.IGNORECASE)
_BULLET = re.compile(r"[ ]{0,3}[-*+•‣◦–][ \t]+\S")
# Headings, rules, indented lines and lists inside a list neither make the form nor break it.
_BESIDE = re.compile(r"[ ]{0,3}(?:#{1,6}[ ]|[-*_]{3,}\s*$|[-*+•‣◦–][ \t])|[ ]{2}|\t")


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds an answer that lacks the list it was asked for.

    Headings, code and indented lines do not count; of the other lines at least half are items, and one more
    may lead in or close. Steps count up from 1 (or are all 1, as Markdown allows) and may start again at 1.

    Returns:
        One finding, or none; always none for formats other than ``steps`` and ``bullets``.
    """
    if context.answer_format not in ("steps", "bullets") or not text.strip():
        return ()
    wanted, item = ("numbered steps", _STEP) if context.answer_format == "steps" else ("bullets", _BULLET)
    lines = [line for line in blank_code(text).splitlines() if line.strip()]
    items = [match for match in map(item.match, lines) if match]
    others = sum(not item.match(line) and not _BESIDE.match(line) for line in lines)
    # One line may lead in or close.
    if not items or len(items) < others - 1:
        return (Finding(NAME, SEVERITY, f"{len(items)} lines are {wanted}, {others} are not"),)
    if context.answer_format == "steps":
        return _check_numbers([int(match.group(1)) for match in items])
    return ()


def _check_numbers(numbers: list[int]) -> tuple[Finding, ...]:
    previous = 0
    for number in numbers:
        if number not in (previous + 1, 1):
            message = f"step {number} follows step {previous}; steps count up from 1"
            return (Finding(NAME, SEVERITY, message),)
        previous = number
    return ()
