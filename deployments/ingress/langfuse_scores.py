"""Stores Langfuse's scores: a score under an id that is known already updates what the first one said. No HTTP.

The last write wins, as there: a score that says what counts already changes nothing; one that says anything else
becomes a supersede of the first. So clicks back and forth under one id leave the last one, and the log has them all.
"""

from collections.abc import Mapping
from typing import Any

from deployments.feedback.contracts import MetricContract
from deployments.feedback.schema import FEEDBACK_KINDS
from deployments.ingress import langfuse
from deployments.ingress.feedback import FeedbackLog, FeedbackService, Row
from deployments.ingress.feedback_view import feedback_rows, replacements_of, value_of
from deployments.ingress.privacy import TextPolicy, protect_text
from deployments.ingress.shims import in_their_words
from graph.errors import Conflict, RheostatError


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
            Conflict: The id is that of a score of another answer or name.
            RheostatError: As the feedback itself is refused; fields are named as Langfuse does.
        """
        score_id, event = langfuse.translate(body, tenant, self._contracts)
        try:
            if score_id is None:
                return await self._store(event, authorization)
            first = await self._find(event["event_id"], tenant)
            if first is None:
                try:
                    await self._store(event, authorization)
                    return score_id
                except Conflict:
                    # Another request with this id was faster, and said something else.
                    first = await self._find(event["event_id"], tenant)
                    if first is None:
                        raise
            update = await self._update(event, first, tenant)
            if update is not None:
                await self._store(update, authorization)
            return score_id
        except RheostatError as error:
            raise in_their_words(error, langfuse.names_of(event)) from error

    async def _store(self, event: Mapping[str, Any], authorization: str | None) -> str:
        (outcome,) = await self._feedback.submit([event], authorization)
        if isinstance(outcome, RheostatError):
            raise outcome
        return outcome.event_id

    async def _find(self, event_id: str, tenant: str) -> Row | None:
        row = await self._log.find_event(event_id)
        return row if row is not None and row["tenant"] == tenant and row["kind"] in FEEDBACK_KINDS else None

    async def _update(self, event: Mapping[str, Any], first: Row, tenant: str) -> dict[str, Any] | None:
        """What brings the first score up to this one; None: it says so already."""
        was = (first["generation_id"], first["kind"], first["name"])
        if was != (event["generation_id"], event["kind"], event.get("name", event["kind"])):
            raise Conflict("The id was used for a score of another answer or name; send a new id.", param="event_id")
        about = feedback_rows(await self._log.events_about(first["generation_id"]), tenant)
        standing = [first, *replacements_of(first, about)]
        value = next((said for row in reversed(standing) if (said := value_of(row)) is not None), None)
        text = next((row["text"] for row in reversed(standing) if row["text"] is not None), None)
        new_value, new_text = event.get("value"), event.get("text")
        if new_text is not None:
            new_text = protect_text(new_text, self._texts)
        if new_value in (None, value) and new_text in (None, text):
            return None
        return langfuse.update(event, first["event_id"], standing[-1]["event_id"])
