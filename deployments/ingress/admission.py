"""How much the service takes on at once, and who waits: the asyncio shell of ``places.py``."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from deployments.ingress.places import Limits, Places, Ticket
from deployments.ingress.telemetry import AdmissionFacts, Telemetry
from graph.errors import Overloaded
from graph.pipeline import Clock
from graph.settings import IngressTunables


class Admission:
    """Counts the answers in the making and the texts being judged, of all requests together.

    Args:
        tunables: Read anew for each request, so that a new configuration applies to the next one.
        clock: Of the tickets' times.
    """

    def __init__(self, tunables: Callable[[], IngressTunables], clock: Clock, telemetry: Telemetry) -> None:
        self._tunables = tunables
        self._clock = clock
        self._telemetry = telemetry
        self._places = Places()
        self._wakers: dict[Ticket, asyncio.Future[None]] = {}
        """Of those who wait."""

    @asynccontextmanager
    async def admit(self, ticket: Ticket) -> AsyncIterator[None]:
        """Waits for the ticket's places and holds them while the block runs.

        Raises:
            Overloaded: It was refused, or waited in vain.
        """
        await self._enter(ticket)
        try:
            yield
        finally:
            self._release(ticket)

    async def _enter(self, ticket: Ticket) -> None:
        self._settle(self._places.offer(ticket, self._limits(), self._clock.now()))
        if ticket.outcome is None:
            waker = self._wakers[ticket] = asyncio.get_running_loop().create_future()
            self._telemetry.waiting(self._places.waiting)
            try:
                async with self._clock.timeout_at(ticket.leave_by):
                    await waker
            except TimeoutError:
                # In the moment between the waking and this it may have got its places: then it has them.
                if ticket.outcome is None:
                    self._settle(self._places.leave(ticket, "waited_too_long", self._limits(), self._clock.now()))
            except asyncio.CancelledError:
                if ticket.outcome is None:
                    self._settle(self._places.leave(ticket, "client_gone", self._limits(), self._clock.now()))
                elif ticket.outcome == "admitted":
                    self._release(ticket)
                raise
        if ticket.outcome != "admitted":
            raise self._refusal(ticket)

    def _release(self, ticket: Ticket) -> None:
        self._settle(self._places.release(ticket.count, self._limits(), self._clock.now()))

    def _settle(self, settled: Sequence[Ticket]) -> None:
        """Tells and wakes those whose waiting is over."""
        for ticket in settled:
            assert ticket.outcome is not None
            waited_s = ticket.decided_at - ticket.arrived
            self._telemetry.decided(AdmissionFacts(ticket.priority, ticket.outcome, waited_s))
            if (waker := self._wakers.pop(ticket, None)) is not None:
                self._telemetry.waiting(self._places.waiting)
                if not waker.done():
                    waker.set_result(None)

    def _limits(self) -> Limits:
        tunables = self._tunables()
        return Limits(tunables.max_inflight_choices, tunables.max_waiting_choices, tunables.max_wait_s)

    def _refusal(self, ticket: Ticket) -> Overloaded:
        tunables = self._tunables()
        busy = f"{self._places.in_use} answers are in the making and {self._places.waiting} wait"
        match ticket.outcome:
            case "would_be_late":
                why = f"{busy}, so this one would wait for longer than may be waited just now, or be late itself"
            case "waited_too_long":
                why = f"no place became free within {ticket.decided_at - ticket.arrived:.1f} s"
            case "displaced":
                why = f"no more than {tunables.max_waiting_choices} may wait, and requests came that go first"
            case _:
                most = f"of at most {tunables.max_inflight_choices} and {tunables.max_waiting_choices}"
                why = f"{busy}, {most}, and this request asks for {ticket.count}"
        return Overloaded(f"The service is busy: {why}; try again soon.", retry_after_s=ticket.room_in_s)
