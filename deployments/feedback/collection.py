"""How many of the recent answers got feedback: the collection rate, kept up row by row. Pure."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from deployments.feedback.schema import FEEDBACK_KINDS

_FEEDBACK = frozenset(FEEDBACK_KINDS) - {"retract"}


class CollectionRate:
    """Share of the last ``window`` generations that at least one feedback row speaks of; all of them count alike."""

    def __init__(self, window: int = 100_000) -> None:
        self._window = window
        self._has_feedback: OrderedDict[str, bool] = OrderedDict()
        self._collected = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes a row that is on disk. Repeats change nothing; feedback on an older generation counts nowhere."""
        generation_id = row["generation_id"]
        if row["kind"] == "generation":
            if generation_id not in self._has_feedback:
                self._has_feedback[generation_id] = False
                if len(self._has_feedback) > self._window:
                    self._collected -= self._has_feedback.popitem(last=False)[1]
        elif row["kind"] in _FEEDBACK and self._has_feedback.get(generation_id) is False:
            self._has_feedback[generation_id] = True
            self._collected += 1

    @property
    def rate(self) -> float | None:
        """0 to 1; None before the first generation."""
        return self._collected / len(self._has_feedback) if self._has_feedback else None
