"""Clients that retry as SDKs do before the real ``Places``, in virtual time: a discrete-event simulation."""

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from deployments.ingress.envelopes import error_headers
from deployments.ingress.places import Limits, Outcome, Places, Ticket
from deployments.ingress.priority import Priority
from graph.errors import Overloaded

RETRIES = 2
"""Of openai for Python and for Node, unless they are told otherwise."""


@dataclass(slots=True, eq=False)
class Call:
    """One call of a client: up to three requests. Times in seconds."""

    first_sent: float
    tenant: str
    priority: Priority
    count: int
    service_s: float
    outcomes: list[Outcome] = field(default_factory=list)
    """Of its requests."""
    sent: float = 0.0
    """When the last request was."""
    admitted: float = math.nan
    ended: float = math.nan
    is_answered: bool = False
    """In time: within the deadline of the request that was admitted."""

    @property
    def was_admitted(self) -> bool:
        return self.outcomes[-1] == "admitted"

    @property
    def wait_s(self) -> float:
        """In the queue."""
        return self.admitted - self.sent


class Simulation:
    """Places that answer in times drawn from a heavy-tailed (log-normal) distribution, and those who ask.

    Args:
        mean_s: Of the time that an answer takes, but for the longest, which are cut as ``max_tokens`` would: at nine
            tenths of the deadline, so that only waiting makes an answer late.
        deadline_s: Of each request, from when it was sent. One that is late holds its places until then.
    """

    def __init__(self, limits: Limits, *, mean_s: float = 1.0, deadline_s: float = 8.0, seed: int = 1) -> None:
        self.limits = limits
        self.places = Places()
        self.now = 0.0
        self.calls: list[Call] = []
        self.most_in_use = 0
        self._mean_s = mean_s
        self._deadline_s = deadline_s
        self._rng = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._calls: dict[Ticket, Call] = {}
        self._on_end: Callable[[Call], None] = lambda call: None

    @property
    def capacity(self) -> float:
        """Answers a second, at most."""
        return self.limits.places / self._mean_s

    def arrive(
        self,
        load: float,
        begin: float,
        end: float,
        tenant: str = "acme",
        priority: Priority = "standard",
        count: int = 1,
    ) -> None:
        """Calls at ``load`` times the capacity, as a Poisson process that does not care how they fare."""
        rate = load * self.capacity / count

        def come() -> None:
            if self.now < end:
                self._call(tenant, priority, count)
                self._at(self.now + self._rng.expovariate(rate), come)

        self._at(begin + self._rng.expovariate(rate), come)

    def keep_asking(self, clients: int, until: float) -> None:
        """So many clients, each of which calls again as soon as it has its answer."""

        def again(call: Call) -> None:
            if self.now < until:
                self._call("acme", "standard", 1)

        self._on_end = again
        for _ in range(clients):
            self._at(0.0, lambda: self._call("acme", "standard", 1))

    def run(self) -> "Simulation":
        while self._events:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
            self.most_in_use = max(self.most_in_use, self.places.in_use)
        return self

    def useful_share(self, begin: float, end: float, tenant: str | None = None) -> float:
        """Of the places' time from ``begin`` to ``end``: what went into answers that came in time."""
        held = (
            call.count * max(0.0, min(call.ended, end) - max(call.admitted, begin))
            for call in self.calls
            if call.is_answered and tenant in (None, call.tenant)
        )
        return sum(held) / (self.limits.places * (end - begin))

    def _call(self, tenant: str, priority: Priority, count: int) -> None:
        # The mean of a log-normal distribution is exp(mu + sigma^2 / 2).
        service_s = min(self._mean_s * self._rng.lognormvariate(-0.5, 1.0), 0.9 * self._deadline_s)
        call = Call(self.now, tenant, priority, count, service_s)
        self.calls.append(call)
        self._send(call)

    def _send(self, call: Call) -> None:
        call.sent = self.now
        ticket = Ticket(call.tenant, call.priority, call.count, self.now, self.now + self._deadline_s)
        self._calls[ticket] = call
        self._settle(self.places.offer(ticket, self.limits, self.now))
        if ticket.outcome is None:
            self._at(ticket.leave_by, lambda: self._expire(ticket))

    def _expire(self, ticket: Ticket) -> None:
        if ticket.outcome is None:
            self._settle(self.places.leave(ticket, "waited_too_long", self.limits, self.now))

    def _settle(self, settled: list[Ticket]) -> None:
        for ticket in settled:
            call = self._calls.pop(ticket)
            assert ticket.outcome is not None
            call.outcomes.append(ticket.outcome)
            if ticket.outcome == "admitted":
                call.admitted = self.now
                call.is_answered = self.now + call.service_s <= ticket.deadline
                self._at(min(self.now + call.service_s, ticket.deadline), lambda call=call: self._end(call))  # type: ignore[misc]
            elif len(call.outcomes) > RETRIES:
                self._on_end(call)
            else:
                headers = error_headers(Overloaded("busy", retry_after_s=ticket.room_in_s), self._rng)
                back_at = self.now + int(headers["retry-after-ms"]) / 1e3
                self._at(back_at, lambda call=call: self._send(call))  # type: ignore[misc]

    def _end(self, call: Call) -> None:
        call.ended = self.now
        self._settle(self.places.release(call.count, self.limits, self.now))
        self._on_end(call)

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), happen))
