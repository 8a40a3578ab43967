"""Who is admitted, who waits and who is refused. Pure: the time and the limits come as arguments.

    offer ──> admitted ──> release       makes room for those who wait
      ├─────> waits ─────> admitted | displaced | waited_too_long | client_gone
      └─────> queue_full | would_be_late

Each request ends in exactly one outcome, and its ticket says which. Places are given class by class, within a class
fairly between tenants, and never to somebody behind the head: small requests do not overtake one for several places
for ever.
"""

import math
from dataclasses import dataclass
from typing import Literal

from deployments.ingress.fair_queue import FairQueue
from deployments.ingress.hold_rate import HoldRate
from deployments.ingress.priority import PRIORITIES, Priority

Outcome = Literal["admitted", "queue_full", "would_be_late", "displaced", "waited_too_long", "client_gone"]
STANDING_SHARE = 0.05
"""Of ``max_wait_s``: the wait that is allowed in a queue that does not empty. Facebook's 5 ms of 100 (see `Places`)."""
STANDING_RELEASES = 4
"""At least so many releases may be waited for: who gets the next place is chosen from several tenants' requests."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds at the moment."""

    places: int
    """Given out at once."""
    waiting: int
    """Places that those who wait may ask for together."""
    max_wait_s: float


@dataclass(slots=True, eq=False)
class Ticket:
    """One request at the door. Times in seconds on one clock."""

    tenant: str
    priority: Priority
    count: int
    """Places that it needs, all at once."""
    arrived: float
    deadline: float
    """When its answer has to be whole."""
    outcome: Outcome | None = None
    """None: it waits."""
    decided_at: float = math.nan
    """When its outcome was."""
    leave_by: float = math.inf
    """Until when it waits."""
    room_in_s: float | None = None
    """Of one that was refused: in how many seconds it should get its places if it could stay; None: nobody knows."""


class Places:
    """The places, and the queue before them. Methods return all tickets that they settled, the caller's own included.

    How long a request may wait depends on how long others have been waiting. A burst may cause waits of up to
    ``max_wait_s``. But a queue that does not empty is fed by more than there are places for, and then a longer wait
    gets no answer more: only a twentieth is allowed, so that who is admitted is admitted soon, and the queue is short
    when the overload ends. This is Facebook's variant of CoDel (B. Maurer, Fail at Scale, ACM Queue 13(8), 2015), with
    two changes: requests are refused when they come, by the wait that is predicted, and not after they waited; and the
    one allowance passes into the other gradually, with the time that somebody, or nobody, has been waiting.
    """

    def __init__(self) -> None:
        self.in_use = 0
        self._queues: dict[Priority, FairQueue[Ticket]] = {priority: FairQueue() for priority in PRIORITIES}
        self._hold = HoldRate()
        self._burst_s: dict[Priority, float] = dict.fromkeys(PRIORITIES, math.inf)
        """The wait that a burst may still cause: less by each second in which somebody of this class or one before it
        waits, more by each in which nobody does."""
        self._now = 0.0

    @property
    def waiting(self) -> int:
        """Places that those who wait ask for together."""
        return sum(queue.waiting for queue in self._queues.values())

    def offer(self, ticket: Ticket, limits: Limits, now: float) -> list[Ticket]:
        """Admits, queues or refuses ``ticket``, which asks for no more than all places.

        It is queued when its turn can be expected to come within the wait that is allowed (see the class), and its
        places within ``max_wait_s`` and so long before its deadline as an answer takes. Where the queue is full, those
        who would be served after it make way, from the last one on.
        """
        assert 0 < ticket.count <= limits.places
        self._advance(limits, now)
        settled = self._fill(limits)
        before = self._before(ticket) + self.in_use - limits.places
        if before + ticket.count <= 0:
            self._queues[ticket.priority].push(ticket)
            return settled + self._fill(limits)
        hold_s = self._hold.mean_s
        ticket.leave_by = min(ticket.arrived + limits.max_wait_s, ticket.deadline - (hold_s or 0.0))
        if ticket.count > limits.waiting:
            return [*settled, self._refuse(ticket, "queue_full", limits)]
        if hold_s is not None:
            release_s = hold_s / limits.places
            is_late = now + (before + ticket.count) * release_s > ticket.leave_by
            if is_late or before * release_s > self._allowed_wait_s(ticket.priority, limits, release_s):
                return [*settled, self._refuse(ticket, "would_be_late", limits)]
        yielding = self._who_yields(ticket, self.waiting + ticket.count - limits.waiting)
        if yielding is None:
            return [*settled, self._refuse(ticket, "queue_full", limits)]
        for other in yielding:
            self._queues[other.priority].remove(other)
        self._queues[ticket.priority].push(ticket)
        return settled + [self._refuse(other, "displaced", limits) for other in yielding]

    def release(self, count: int, limits: Limits, now: float) -> list[Ticket]:
        """``count`` places are given back."""
        self._advance(limits, now)
        self._hold.released(count, limits.places)
        self.in_use -= count
        return self._fill(limits)

    def leave(
        self, ticket: Ticket, outcome: Literal["waited_too_long", "client_gone"], limits: Limits, now: float
    ) -> list[Ticket]:
        """``ticket``, which waits, does so no longer."""
        self._advance(limits, now)
        self._queues[ticket.priority].remove(ticket)
        return [self._refuse(ticket, outcome, limits), *self._fill(limits)]

    def _advance(self, limits: Limits, now: float) -> None:
        self._hold.advance(self.in_use, now)
        passed_s, self._now = max(0.0, now - self._now), max(now, self._now)
        waiting = 0
        for priority, queue in self._queues.items():
            waiting += queue.waiting
            burst_s = min(self._burst_s[priority], limits.max_wait_s)
            burst_s += -passed_s if waiting else passed_s
            self._burst_s[priority] = min(max(burst_s, 0.0), limits.max_wait_s)

    def _fill(self, limits: Limits) -> list[Ticket]:
        """Gives out what is free."""
        settled = []
        while (head := self._head()) is not None:
            queue = self._queues[head.priority]
            if self._now > head.leave_by:
                queue.remove(head)
                settled.append(self._refuse(head, "waited_too_long", limits))
            elif head.count > limits.places:
                # The limit was lowered: it would wait at the head in vain, and all others behind it.
                queue.remove(head)
                settled.append(self._refuse(head, "displaced", limits))
            elif self.in_use + head.count <= limits.places:
                queue.serve_head()
                self.in_use += head.count
                head.outcome, head.decided_at = "admitted", self._now
                settled.append(head)
            else:
                break
        return settled

    def _head(self) -> Ticket | None:
        for queue in self._queues.values():
            if (head := queue.head()) is not None:
                return head
        return None

    def _refuse(self, ticket: Ticket, outcome: Outcome, limits: Limits) -> Ticket:
        ticket.outcome, ticket.decided_at = outcome, self._now
        hold_s = self._hold.mean_s
        if hold_s is not None:
            missing = self._before(ticket) + self.in_use + ticket.count - limits.places
            ticket.room_in_s = max(0, missing) * hold_s / limits.places
        return ticket

    def _before(self, ticket: Ticket) -> int:
        """Places that are given to others before a request like ``ticket`` that came now."""
        before = 0
        for priority, queue in self._queues.items():
            if priority == ticket.priority:
                return before + queue.before_next(ticket.tenant)
            before += queue.waiting
        raise AssertionError(ticket.priority)

    def _allowed_wait_s(self, priority: Priority, limits: Limits, release_s: float) -> float:
        """Until the turn of a request that came now.

        Args:
            release_s: Between one place that becomes free and the next.
        """
        standing_s = max(STANDING_SHARE * limits.max_wait_s, STANDING_RELEASES * release_s)
        return min(limits.max_wait_s, max(standing_s, self._burst_s[priority]))

    def _who_yields(self, ticket: Ticket, over: int) -> list[Ticket] | None:
        """Those behind ``ticket``, the last one first, who ask for at least ``over`` places; None: they do not."""
        yielding: list[Ticket] = []
        for priority in reversed(PRIORITIES[PRIORITIES.index(ticket.priority) :]):
            if over <= 0:
                break
            behind = ticket.tenant if priority == ticket.priority else None
            for other in self._queues[priority].last_first(behind):
                if over <= 0:
                    break
                yielding.append(other)
                over -= other.count
        return yielding if over <= 0 else None
