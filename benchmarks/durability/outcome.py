"""What an experiment found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures for the table and the record, and every promise that was broken, in words; none: it holds."""

    experiment: str
    rows: tuple[Mapping[str, Any], ...]
    """One mapping a row of the table, all with the same names; numbers and text only."""
    broken: tuple[str, ...]
    seconds: float
    """How long it took."""
