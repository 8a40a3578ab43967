"""How good the answers of this replica are just now: counts and means for ``GET /v1/quality``. Pure, in memory only.

The log and its reports say what was true; this says what is, without reading anything. The chat service feeds it.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from graph.contracts import Outcome
from graph.moves import Answer

WINDOW = 1000
"""Answers that count as recent; of each tenant its own, so that nobody sees in it how busy the others are."""
MAX_TENANTS = 64
"""Tenants with counts of their own, about 0.6 MB each; the one without an answer for longest makes room."""
_OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What counts of one answer."""

    outcome: Outcome
    score: float | None
    scores: Mapping[str, float]
    failed_checks: tuple[str, ...]
    """Each once; a note is no failure."""


class QualityTally:
    """Not thread-safe: the event loop's.

    Args:
        clock: Seconds since 1970 UTC.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._unknown_since = clock()
        """Since when everything is known of a tenant that has no counts."""
        self._all = _Series(self._unknown_since)
        self._tenants: dict[str, _Series] = {}
        """The one with the latest answer last."""

    def add(self, tenant: str, answer: Answer) -> None:
        """Counts a whole answer."""
        seen = _Seen(
            answer.outcome,
            answer.score,
            answer.scores,
            tuple(dict.fromkeys(finding.check for finding in answer.findings if finding.action != "note")),
        )
        self._all.add(seen)
        series = self._tenants.pop(tenant, None)
        if series is None:
            series = _Series(self._unknown_since)
            if len(self._tenants) >= MAX_TENANTS:
                del self._tenants[next(iter(self._tenants))]
                self._unknown_since = self._clock()
        self._tenants[tenant] = series
        series.add(seen)

    def report(self, tenant: str | None) -> dict[str, Any]:
        """The object of ``GET /v1/quality``.

        Args:
            tenant: Whose answers; None: all.
        """
        series = self._all if tenant is None else self._tenants.get(tenant) or _Series(self._unknown_since)
        recent = _Sums()
        for seen in series.recent:
            recent.add(seen)
        return {
            "object": "quality",
            "scope": "replica",
            "since": int(series.since),
            "answers": series.total.answers,
            "recent": recent.to_json(),
            "total": series.total.to_json(),
        }


class _Series:
    """The answers of one tenant, or of all."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.recent: deque[_Seen] = deque(maxlen=WINDOW)
        self.total = _Sums()

    def add(self, seen: _Seen) -> None:
        self.recent.append(seen)
        self.total.add(seen)


@dataclass(slots=True)
class _Sums:
    answers: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    failed_checks: Counter[str] = field(default_factory=Counter)
    scored: int = 0
    score: float = 0.0
    scores: Counter[str] = field(default_factory=Counter)
    """Sums; an answer need not have every sub-score."""
    scored_by_name: Counter[str] = field(default_factory=Counter)

    def add(self, seen: _Seen) -> None:
        self.answers += 1
        self.outcomes[seen.outcome] += 1
        self.failed_checks.update(seen.failed_checks)
        if seen.score is None:
            return  # not judged: its sub-scores say nothing either
        self.scored += 1
        self.score += seen.score
        for name, value in seen.scores.items():
            self.scores[name] += value  # type: ignore[assignment]  # sums of fractions
            self.scored_by_name[name] += 1

    def to_json(self) -> dict[str, Any]:
        return {
            "answers": self.answers,
            "outcomes": {outcome: self.outcomes[outcome] for outcome in _OUTCOMES},
            "score": round(self.score / self.scored, 4) if self.scored else None,
            "scores": {name: round(value / self.scored_by_name[name], 4) for name, value in self.scores.items()},
            "findings": dict(self.failed_checks.most_common()),
        }
