"""Which answers may be written again: a share of all, and only for reasons for which it has helped. Pure.

What fails a check for a cause that stays (a language that the model cannot write) fails it again, and a service whose
every answer is written twice serves half as many. So regenerations are paid for by answers, as Finagle's RetryBudget
has it, and a reason for which they did not help has to wait, twice as long each time, as with exponential backoff.
"""

from dataclasses import dataclass, field

__all__ = ["RegenerationBudget", "RegenerationBudgets"]

_MOST_SAVED = 10.0
"""Regenerations that may come in a row after a time without any."""
_MOST_FAILURES = 6
"""That count: after so many in a row 63 answers with the same reason go without before one is tried again."""
_MAX_TENANTS = 1000


@dataclass(slots=True)
class _Reason:
    failures: int = 0
    """Regenerations in a row that did not help."""
    wait: int = 0
    """How many more answers go without."""


@dataclass(slots=True)
class RegenerationBudget:
    """Of one tenant at one ingress replica; not thread-safe."""

    share: float
    """Regenerations that an answer pays for, 0 to 1. 1: all are allowed."""
    _saved: float = 1.0
    _reasons: dict[str, _Reason] = field(default_factory=dict)

    def count(self) -> None:
        """An answer was judged that could be written again."""
        self._saved = min(self._saved + self.share, _MOST_SAVED)

    def allow(self, reason: str) -> bool:
        """Whether an answer that failed for ``reason``, one of a bounded number, may be written again."""
        if self.share in (0, 1):
            return self.share == 1
        known = self._reasons.setdefault(reason, _Reason())
        if known.wait:
            known.wait -= 1
            return False
        if self._saved < 1:
            return False
        self._saved -= 1
        return True

    def tell(self, reason: str, helped: bool) -> None:
        """What came of a regeneration that was allowed."""
        known = self._reasons.setdefault(reason, _Reason())
        known.failures = 0 if helped else min(known.failures + 1, _MOST_FAILURES)
        known.wait = 2**known.failures - 1


class RegenerationBudgets:
    """One a tenant: what one of them asks for in vain costs the others nothing."""

    def __init__(self) -> None:
        self._tenants: dict[str, RegenerationBudget] = {}
        """The one that was asked for last comes last."""

    def of(self, tenant: str, share: float) -> RegenerationBudget:
        """The tenant's, with the share that holds now."""
        budget = self._tenants.pop(tenant, None) or RegenerationBudget(share)
        if len(self._tenants) >= _MAX_TENANTS:
            del self._tenants[next(iter(self._tenants))]
        self._tenants[tenant] = budget
        budget.share = share
        return budget
