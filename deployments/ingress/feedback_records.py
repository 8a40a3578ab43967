"""Shows and erases what a tenant has in the log: its feedback, and its answers with what was said about them. No HTTP.

What is unknown, erased or another tenant's is all the same: not found.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from deployments.feedback.markers import tombstone_id, tombstone_row, undelivered_id
from deployments.feedback.schema import FEEDBACK_KINDS
from deployments.ingress.feedback import FeedbackLog, Row, generation_not_found
from deployments.ingress.feedback_view import event_json, feedback_rows, generation_json
from graph.errors import NotFound, RheostatError


class FeedbackRecords:
    """Reads and erases by id.

    Args:
        clock: Seconds since 1970 UTC.
    """

    def __init__(self, log: FeedbackLog, clock: Callable[[], float] = time.time) -> None:
        self._log = log
        self._clock = clock

    async def show_event(self, event_id: str, tenant: str) -> dict[str, Any]:
        """One piece of feedback, see `feedback_view.event_json`.

        Raises:
            NotFound: ``event_not_found``.
        """
        row = await self._event(event_id, tenant)
        if row is None:
            raise _event_not_found(event_id)
        about = feedback_rows(await self._log.events_about(row["generation_id"]), tenant)
        return event_json(row, about)

    async def show_generation(self, generation_id: str, tenant: str) -> dict[str, Any]:
        """One answer with the feedback about it, see `feedback_view.generation_json`.

        Raises:
            NotFound: ``generation_not_found``.
        """
        row = await self._generation(generation_id, tenant)
        if row is None:
            raise generation_not_found(generation_id, "id")
        about, found = await asyncio.gather(
            self._log.events_about(generation_id), self._log.find_event(undelivered_id(generation_id))
        )
        undelivered = _own(found, tenant, ("undelivered",))
        return generation_json(row, feedback_rows(about, tenant), is_delivered=undelivered is None)

    async def erase_event(self, event_id: str, tenant: str) -> dict[str, Any]:
        """Hides one piece of feedback at once and has it erased at the next compaction. Again: the same answer.

        Returns:
            ``{"deleted", "id", "erased", "adapters"}``; adapters were trained on it and are not changed.

        Raises:
            NotFound: ``event_not_found``.
        """
        if await self._event(event_id, tenant) is None and not await self._is_erased(event_id, "event", tenant):
            raise _event_not_found(event_id)
        return await self._erase(event_id, "event", tenant, [event_id])

    async def erase_generation(self, generation_id: str, tenant: str) -> dict[str, Any]:
        """As `erase_event`, for an answer and every row about it.

        Again: the adapters are those of the rows that are still in the log; after compaction nobody knows the others.

        Raises:
            NotFound: ``generation_not_found``.
        """
        is_known = await self._generation(generation_id, tenant) is not None
        if not is_known and not await self._is_erased(generation_id, "generation", tenant):
            raise generation_not_found(generation_id, "id")
        return await self._erase(generation_id, "generation", tenant, await self._log.ids_about(generation_id))

    async def _erase(
        self, erased_id: str, scope: Literal["event", "generation"], tenant: str, ids: Sequence[str]
    ) -> dict[str, Any]:
        # Asked first: if the log cannot tell, nothing is erased yet, and the request can be repeated.
        adapters = list(await self._log.adapters_trained_on(ids))
        (outcome,) = await self._log.append_many([tombstone_row(erased_id, scope, tenant, int(self._clock() * 1e6))])
        if isinstance(outcome, RheostatError):
            raise outcome
        return {"deleted": True, "id": erased_id, "erased": "on the next compaction", "adapters": adapters}

    async def _event(self, event_id: str, tenant: str) -> Row | None:
        return _own(await self._log.find_event(event_id), tenant, FEEDBACK_KINDS)

    async def _generation(self, generation_id: str, tenant: str) -> Row | None:
        return _own(await self._log.find_generation(generation_id), tenant, ("generation",))

    async def _is_erased(self, erased_id: str, scope: str, tenant: str) -> bool:
        tombstone = _own(await self._log.find_event(tombstone_id(erased_id)), tenant, ("tombstone",))
        return tombstone is not None and tombstone["name"] == scope


def _own(row: Mapping[str, Any] | None, tenant: str, kinds: Sequence[str]) -> Row | None:
    return row if row is not None and row["tenant"] == tenant and row["kind"] in kinds else None


def _event_not_found(event_id: str) -> NotFound:
    return NotFound(f"There is no event {event_id!r}.", param="id", code="event_not_found")
