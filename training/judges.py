"""Who says which of two answers is better: what people said of other prompts, or the validators' score. Pure.

`judge_fit` makes the first of them. What it cannot see: see `answer_features`. It knows form and tone, not facts. It is
symmetric, so both orders agree.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from training.answer_features import answer_features
from training.gate import Verdict
from training.regression import standardise


class Judge(Protocol):
    """Compares two answers to one prompt."""

    @property
    def name(self) -> str: ...

    async def compare(self, prompt: str, champion: "Judged", challenger: "Judged") -> tuple[Verdict, Verdict]:
        """Return who wins with the champion's answer first, and with the challenger's first."""
        ...


class Judged(Protocol):
    """What a judge may look at."""

    @property
    def text(self) -> str: ...
    @property
    def score(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class FeedbackJudge:
    """The learned judge. Make it with `judge_fit.fit_judge`."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    margin: float
    """In the unit of `score`: closer is a tie."""
    name: str = "feedback"

    def score(self, prompt: str, answer: str) -> float:
        """How much people would like it, as log-odds against an average answer."""
        row = np.array([answer_features(answer, prompt)])
        return float((standardise(row, np.array(self.mean), np.array(self.scale)) @ np.array(self.weights))[0])

    async def compare(self, prompt: str, champion: Judged, challenger: Judged) -> tuple[Verdict, Verdict]:
        """Compare by `score`."""
        lead = self.score(prompt, challenger.text) - self.score(prompt, champion.text)
        return (_verdict(lead, self.margin),) * 2


@dataclass(frozen=True, slots=True)
class ScoreJudge:
    """The validators' total quality score, for who has no feedback yet. It rewards what the guards guard anyway."""

    margin: float = 0.02
    """The score has four places, of which a difference of the last two means nothing."""
    name: str = "score"

    async def compare(self, prompt: str, champion: Judged, challenger: Judged) -> tuple[Verdict, Verdict]:
        """Compare by score; an answer that nobody validated decides nothing."""
        if champion.score is None or challenger.score is None:
            return "tie", "tie"
        return (_verdict(challenger.score - champion.score, self.margin),) * 2


def _verdict(lead: float, margin: float) -> Verdict:
    if abs(lead) <= margin:
        return "tie"
    return "challenger" if lead > 0 else "champion"
