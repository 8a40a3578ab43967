"""Tells whether an operator's own classifier objects to an answer: one check for each model slot of the policy.

The probability comes with the context: the pool measures it, since a check loads no model.
"""

from collections.abc import Callable
from typing import Literal

from deployments.validator.thresholds import DEFAULTS, Thresholds
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["SEVERITY", "SlotKind", "is_measurable", "make_check", "premise_of"]

SEVERITY: Severity = "soft"
SlotKind = Literal["text", "pair"]
"""text: the answer is classified. pair: what the caller sent, and the answer."""


def premise_of(context: CheckContext) -> str:
    """What an answer can be grounded in: the system turns, where sources often stand, then the caller's other turns."""
    return "\n".join(part for part in (context.system, context.known_text or context.prompt) if part.strip())


def is_measurable(kind: SlotKind, text: str, context: CheckContext) -> bool:
    """Whether there is something to classify."""
    return bool(text.strip()) and (kind == "text" or bool(premise_of(context)))


def make_check(
    name: str, kind: SlotKind, label: str, at_most: float | None, at_least: float | None
) -> Callable[[str, CheckContext, Thresholds], tuple[Finding, ...]]:
    """The check of one slot.

    Args:
        name: The slot's.
        label: The class whose probability the score is.
        at_most: A higher probability is a finding; None: no bound.
        at_least: A lower probability is a finding; None: no bound.

    Returns:
        A check that gives one finding, or none; none where there is nothing to classify. A repaired text is held
        against the score of the text as it was written. It raises LookupError where the score is missing: a slot
        that nobody measured must not pass.
    """

    def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
        if not is_measurable(kind, text, context):
            return ()
        if name not in context.model_scores:
            raise LookupError(name)
        score = context.model_scores[name]
        if at_most is not None and score > at_most:
            expected = f"at most {at_most:g}"
        elif at_least is not None and score < at_least:
            expected = f"at least {at_least:g}"
        else:
            return ()
        return (Finding(name, SEVERITY, f"{label} has a probability of {score:.3g}; {expected} is expected"),)

    return check
