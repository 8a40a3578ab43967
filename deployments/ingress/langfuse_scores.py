"""Stores Langfuse's scores: a score under an id that is known already updates what the first one said. No HTTP.

The last write wins, as there: a score that says what counts already changes nothing, and is answered when what says so
is on disk; one that says anything else becomes a supersede of the first. So clicks back and forth under one id leave
the last one, and the log has them all.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from deployments.feedback.contracts import MetricContract
from deployments.feedback.schema import FEEDBACK_KINDS
from deployments.ingress import langfuse
from deployments.ingress.feedback import FeedbackLog, FeedbackService, Row
from deployments.ingress.feedback_view import feedback_rows, is_retracted, replacements_of, value_of
from deployments.ingress.privacy import TextPolicy, protect_text
from deployments.ingress.shims import in_their_words
from graph.errors import Conflict, RheostatError

_PAUSES_S = (0.01, 0.05, 0.25, 1.0)
"""Until an accepted row is written; far longer than a sync of the disk takes."""


class LangfuseScores:
    """Takes scores.

    Args:
        texts: What of the texts is stored, so that a comment is compared with what the log has of it.
    """

    def __init__(
        self,
        feedback: FeedbackService,
        log: FeedbackLog,
        contracts: Mapping[str, MetricContract],
        texts: TextPolicy = "keep",
    ) -> None:
        self._feedback = feedback
        self._log = log
        self._contracts = contracts
        self._texts: TextPolicy = texts

    async def put(self, body: object, tenant: str, authorization: str | None) -> str:
        """The score's id: the sender's, or ours where it sent none. On disk.

        Args:
            authorization: As a bearer's; the key of ``tenant``.

        Raises:
            Conflict: The id is that of a score of another answer or name, or of one that was retracted.
            RheostatError: As the feedback itself is refused; fields are named as Langfuse does.
        """
        score_id, event = langfuse.translate(body, self._contracts)
        try:
            if score_id is None:
                return await self._store(event, authorization)
            event_id = langfuse.event_id_of(score_id, tenant)
            first = await self._find(event_id, tenant)
            if first is None:
                try:
                    await self._store(event, authorization, event_id)
                    return score_id
                except Conflict:
                    # Another request with this id was faster, and said something else.
                    first = await self._find_soon(event_id, tenant)
                    if first is None:
                        raise
            await self._update(event, first, tenant, authorization)
            return score_id
        except RheostatError as error:
            raise in_their_words(error, langfuse.names_of(event)) from error

    async def _store(self, event: Mapping[str, Any], authorization: str | None, event_id: str | None = None) -> str:
        (outcome,) = await self._feedback.submit([event], authorization, derived_id=event_id)
        if isinstance(outcome, RheostatError):
            raise outcome
        return outcome.event_id

    async def _find(self, event_id: str, tenant: str) -> Row | None:
        row = await self._log.find_event(event_id)
        return row if row is not None and row["tenant"] == tenant and row["kind"] in FEEDBACK_KINDS else None

    async def _find_soon(self, event_id: str, tenant: str) -> Row | None:
        """A row that the log has accepted: it can be read once its group is written. None: it was erased."""
        for pause_s in _PAUSES_S:
            if (row := await self._find(event_id, tenant)) is not None:
                return row
            await asyncio.sleep(pause_s)
        return await self._find(event_id, tenant)

    async def _update(self, event: Mapping[str, Any], first: Row, tenant: str, authorization: str | None) -> None:
        """Brings the first score up to this one. When it says so already, waits until that is on disk."""
        was = (first["generation_id"], first["kind"], first["name"])
        if was != (event["generation_id"], event["kind"], event.get("name", event["kind"])):
            raise Conflict("The id was used for a score of another answer or name; send a new id.", param="event_id")
        about = feedback_rows(await self._log.events_about(first["generation_id"]), tenant)
        if is_retracted(first, about):
            raise Conflict("The score with this id was retracted; send a new id.", param="event_id")
        standing = [first, *replacements_of(first, about)]
        said_value = next((row for row in reversed(standing) if value_of(row) is not None), first)
        said_text = next((row for row in reversed(standing) if row["text"] is not None), first)
        new_value, new_text = event.get("value"), event.get("text")
        if new_text is not None:
            new_text = protect_text(new_text, self._texts)
        if new_value not in (None, value_of(said_value)) or new_text not in (None, said_text["text"]):
            update = langfuse.update(event, first["event_id"], standing[-1]["event_id"])
            if update is not None:
                await self._store(update[1], authorization, update[0])
                return
        # They may have been read before they were synced. To the log they are repeats, so it writes no more.
        rows = {row["event_id"]: row for row in (said_value, said_text)}
        for outcome in await self._log.append_many(list(rows.values())):
            if isinstance(outcome, RheostatError):
                raise outcome
