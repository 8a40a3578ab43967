"""What a case is: a text with one defect, which check should find it, and how hard it is to notice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.validation.corpus import Record
from graph.contracts import CheckContext

__all__ = ["SEVERITIES", "Case", "Severity", "context_of"]

Severity = Literal["mild", "medium", "severe"]
"""How noticeable a defect is; a mild one is the hardest to find."""
SEVERITIES: Sequence[Severity] = ("severe", "medium", "mild")


@dataclass(frozen=True, slots=True)
class Case:
    """One text that is wrong in one known way."""

    record_id: str
    """Of the text that was spoilt."""
    defect: str
    kind: str
    """Which of the defect's forms."""
    severity: Severity
    text: str
    context: CheckContext
    span: tuple[int, int] | None
    """Where it is, [start, end) in characters; None: everywhere, or where something is missing."""
    check: str
    """Name of the check that should find it."""


def context_of(record: Record) -> CheckContext:
    """What the service knows when it answers the record's question."""
    return CheckContext(prompt=record.question, system=record.system, known_text=record.question)
