"""From the bodies of feedback to rows of the log: who may say what about which answer. No HTTP, no Ray.

Order of checks: the event itself, then its token, and only then the log. A token is the whole proof: forged, expired
and other tenants' tokens are refused before anything is read, and feedback with a good one is stored without a
look-up. The log is read only for what names a row by its id: a generation without a token, and the event that a retract
or supersede speaks of. The second answer of a preference is not looked up: readers join it within the tenant.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from deployments.feedback.contracts import MetricContract
from deployments.feedback.events import FeedbackEvent, check_target, new_event_id, parse_event, to_event_row
from deployments.feedback.schema import FEEDBACK_KINDS
from deployments.feedback.tokens import AnswerFacts, SigningKey, hash_rater, verify
from deployments.ingress.auth import KeyRing
from deployments.ingress.privacy import TextPolicy, protect
from graph.contracts import LogAck
from graph.errors import InvalidRequest, NotFound, RheostatError, Unauthenticated

MAX_LOOK_UPS = 64
"""Ids that one request may have looked up in the log."""
Row = Mapping[str, Any]
Outcome = LogAck | RheostatError


class FeedbackLog(Protocol):
    """The log as the ingress sees it. ``find_*`` give None for what is unknown or erased."""

    async def append_many(self, rows: Sequence[Row]) -> Sequence[Outcome]:
        """An outcome a row, in order; an acknowledged one is on disk."""
        ...

    async def find_event(self, event_id: str) -> Row | None: ...
    async def find_generation(self, generation_id: str) -> Row | None: ...
    async def events_about(self, generation_id: str) -> Sequence[Row]: ...

    async def ids_about(self, generation_id: str) -> Sequence[str]:
        """event_ids of the answer and of all rows that name it, erased ones too until they are compacted away."""
        ...

    async def adapters_trained_on(self, event_ids: Sequence[str]) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class _Claim:
    """An event whose sender is known."""

    event: FeedbackEvent
    event_id: str
    """Its own; or else the service's."""
    tenant: str
    answer: AnswerFacts | None
    """From the token; None: the log has to say."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What the log said of the ids that a batch names; an error stands for what could not be read."""

    generations: Mapping[str, Row | RheostatError | None]
    events: Mapping[str, Row | RheostatError | None]


_NOTHING = _Found({}, {})


class FeedbackService:
    """Takes feedback.

    Args:
        contracts: Metrics by name.
        texts: What of the texts may be stored.
        clock: Seconds since 1970 UTC.
    """

    def __init__(
        self,
        log: FeedbackLog,
        keys: KeyRing,
        token_key: SigningKey,
        contracts: Mapping[str, MetricContract],
        texts: TextPolicy = "keep",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._keys = keys
        self._token_key = token_key
        self._verifying = {token_key.key_id: token_key.secret}
        self._contracts = contracts
        self._texts: TextPolicy = texts
        self._clock = clock

    async def submit(
        self,
        bodies: Sequence[object],
        authorization: str | None,
        *,
        is_dry_run: bool = False,
        derived_id: str | None = None,
    ) -> list[Outcome]:
        """An outcome an event, in order; one that is refused stops no other. The rows go down in one call.

        Args:
            authorization: The request's header. May be absent where every event has its token.
            is_dry_run: Check everything, store nothing.
            derived_id: event_id of the only event, from ``markers.derive_id``; no body can name one of these.

        Raises:
            InvalidRequest: The events name more than `MAX_LOOK_UPS` ids that only the log knows.
            Unauthenticated: A key was sent and is not known.
        """
        now_us = int(self._clock() * 1e6)
        tenant = self._tenant_of(authorization)
        claims = [self._claim(body, tenant, now_us, derived_id) for body in bodies]
        found = await self._look_up(claims)
        rows: list[Row | RheostatError] = []
        # Earlier events of the batch, so that a later one may name them.
        batch: dict[str, Row] = {}
        for index, claim in enumerate(claims):
            # A microsecond apart, for readers take the latest: the order of the batch is that of the log.
            row = claim if isinstance(claim, RheostatError) else self._row(claim, found, batch, now_us + index)
            if not isinstance(row, RheostatError):
                batch.setdefault(row["event_id"], row)
            rows.append(row)
        kept = [row for row in rows if not isinstance(row, RheostatError)]
        if is_dry_run:
            stored: Iterable[Outcome] = [LogAck(row["event_id"], "", 0) for row in kept]
        else:
            stored = await self._log.append_many(kept) if kept else ()
        outcomes = iter(stored)
        return [row if isinstance(row, RheostatError) else next(outcomes) for row in rows]

    def _tenant_of(self, authorization: str | None) -> str | None:
        """The tenant of the key; None where keys are required and none was sent."""
        if self._keys.required and authorization is None:
            return None
        return self._keys.tenant_of(authorization)

    def _claim(self, body: object, tenant: str | None, now_us: int, derived_id: str | None) -> _Claim | RheostatError:
        try:
            event = parse_event(body, self._contracts, now_us=now_us)
            event_id = derived_id or event.event_id or new_event_id()
            if event.feedback_token is not None:
                claims = verify(event.feedback_token, self._verifying, now_us / 1e6)
                if self._keys.required and tenant not in (None, claims.tenant):
                    raise InvalidRequest(
                        "This feedback_token is another tenant's.",
                        param="feedback_token",
                        code="invalid_feedback_token",
                    )
                return _Claim(event, event_id, claims.tenant, claims)
            if tenant is None:
                raise Unauthenticated(
                    "A generation_id needs an API key; send 'Authorization: Bearer YOUR_KEY', or the feedback_token "
                    "that came with the answer."
                )
        except RheostatError as error:
            return error
        return _Claim(event, event_id, tenant, None)

    async def _look_up(self, claims: Sequence[_Claim | RheostatError]) -> _Found:
        """Reads each row that the events name by id, once, all at the same time."""
        named = [claim.event for claim in claims if isinstance(claim, _Claim)]
        # Dicts keep the order and have each id once.
        generations = dict.fromkeys(event.generation_id for event in named if event.generation_id is not None)
        events = dict.fromkeys(event.supersedes for event in named if event.supersedes is not None)
        if not generations and not events:
            return _NOTHING
        if (count := len(generations) + len(events)) > MAX_LOOK_UPS:
            raise InvalidRequest(
                f"The events name {count} different ids as 'generation_id' and 'supersedes'; at most {MAX_LOOK_UPS} "
                "are looked up for one request. Send fewer events, or a feedback_token in place of each generation_id.",
                param="events",
            )
        looking = [*map(self._log.find_generation, generations), *map(self._log.find_event, events)]
        answers = iter(await asyncio.gather(*map(_read, looking)))
        return _Found({each: next(answers) for each in generations}, {each: next(answers) for each in events})

    def _row(self, claim: _Claim, found: _Found, batch: Mapping[str, Row], now_us: int) -> Row | RheostatError:
        event, tenant = claim.event, claim.tenant
        try:
            answer = claim.answer or _answer_of(event.generation_id, tenant, found)
            replaces = None
            if event.supersedes is not None:
                # The log first: what the batch says under an id that the log has already is not stored.
                target = _given(found.events[event.supersedes]) or batch.get(event.supersedes)
                replaces = self._check_target(event, target, answer)
            row = to_event_row(
                event,
                answer,
                now_us=now_us,
                event_id=claim.event_id,
                source_id=None if event.rater is None else hash_rater(event.rater, tenant, self._token_key),
                replaces=replaces,
            )
            return protect(row, self._texts)
        except RheostatError as error:
            return error

    def _check_target(self, event: FeedbackEvent, target: Row | None, answer: AnswerFacts) -> str | None:
        """The metric's name of the event that is replaced; None: nothing is."""
        # About another answer is as good as unknown: a token speaks of one answer only.
        if (
            target is None
            or target["kind"] not in FEEDBACK_KINDS
            or (target["tenant"], target["generation_id"]) != (answer.tenant, answer.generation_id)
        ):
            raise NotFound(
                f"There is no event {event.supersedes!r} about this answer.", param="supersedes", code="event_not_found"
            )
        check_target(event, target, self._contracts)
        return target["name"] if event.kind == "supersede" else None


async def _read(looking: Awaitable[Row | None]) -> Row | RheostatError | None:
    try:
        return await looking
    except RheostatError as error:
        return error


def _given(found: Row | RheostatError | None) -> Row | None:
    if isinstance(found, RheostatError):
        raise found
    return found


def _answer_of(generation_id: str | None, tenant: str, found: _Found) -> AnswerFacts:
    assert generation_id is not None, "an event has a token or a generation_id"
    row = _given(found.generations[generation_id])
    if row is None or row["tenant"] != tenant:
        raise generation_not_found(generation_id, "generation_id")
    return AnswerFacts(generation_id, tenant, row["model"], row["adapter"], row["arm"], row["controls_hash"])


def generation_not_found(generation_id: str, param: str) -> NotFound:
    """One text for an unknown, an erased and another tenant's answer, so that it tells nothing of the last."""
    return NotFound(f"There is no answer {generation_id!r}.", param=param, code="generation_not_found")
