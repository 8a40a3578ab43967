"""The routes of feedback, its analysis, and the shims for other services' clients.

HTTP only: each reads, calls and answers.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from fastapi import APIRouter, Request, Response

from deployments.feedback.contracts import MetricContract
from deployments.feedback.fields import check_event_id, check_generation_id
from deployments.ingress import tensorzero
from deployments.ingress.auth import KeyRing, bearer_of_basic
from deployments.ingress.envelopes import error_body
from deployments.ingress.feedback import FeedbackLog, FeedbackService, Outcome
from deployments.ingress.feedback_records import FeedbackRecords
from deployments.ingress.langfuse_scores import LangfuseScores
from deployments.ingress.responses import json_response
from deployments.ingress.shims import in_their_words
from graph.contracts import LogAck
from graph.errors import InvalidRequest, RheostatError

MAX_BATCH = 256
_SINCE = re.compile(r"([1-9][0-9]{0,5})([dhm])")
_UNIT_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0}


class AnalysedLog(FeedbackLog, Protocol):
    """The log, with the report over it."""

    async def analysis(self, since_s: float | None) -> Mapping[str, Any]: ...


def feedback_routes(
    log: AnalysedLog,
    feedback: FeedbackService,
    scores: LangfuseScores,
    keys: KeyRing,
    contracts: Mapping[str, MetricContract],
    read_body: Callable[[Request], Awaitable[Any]],
) -> APIRouter:
    """All routes about feedback.

    Args:
        read_body: The request's body as parsed JSON, bounded.
    """
    router = APIRouter()
    records = FeedbackRecords(log)

    async def submit(request: Request) -> Response:
        body = await read_body(request)
        authorization = request.headers.get("authorization")
        if isinstance(body, dict) and "events" in body:
            return json_response(_batch_answer(await feedback.submit(_events(body), authorization)))
        (outcome,) = await feedback.submit((body,), authorization)
        return json_response(_ack(_stored(outcome)))

    # A plain route: FastAPI's own way to the same function costs 25 us, a third of what an event takes here.
    router.add_route("/v1/feedback", submit, methods=["POST"])

    @router.api_route("/v1/feedback/{event_id}", methods=["GET", "DELETE"])
    async def one_event(request: Request, event_id: str) -> Response:
        tenant = _tenant(request, keys)
        act = records.erase_event if request.method == "DELETE" else records.show_event
        return json_response(await act(_valid(event_id, check_event_id), tenant))

    @router.api_route("/v1/generations/{generation_id}", methods=["GET", "DELETE"])
    async def one_generation(request: Request, generation_id: str) -> Response:
        tenant = _tenant(request, keys)
        act = records.erase_generation if request.method == "DELETE" else records.show_generation
        return json_response(await act(_valid(generation_id, check_generation_id), tenant))

    @router.get("/v1/analysis")
    async def analysis(request: Request) -> Response:
        tenant = _tenant(request, keys)
        since_s = parse_since(request.query_params.get("since", "7d"))
        keys.check_admin(tenant, request.client.host if request.client else None)
        return json_response(await log.analysis(since_s))

    @router.post("/feedback")
    async def tensorzero_feedback(request: Request) -> Response:
        _tenant(request, keys)
        event, is_dry_run = tensorzero.translate(await read_body(request), contracts)
        (outcome,) = await feedback.submit((event,), request.headers.get("authorization"), is_dry_run=is_dry_run)
        try:
            return json_response({"feedback_id": _stored(outcome).event_id})
        except RheostatError as error:
            raise in_their_words(error, tensorzero.NAMES) from error

    @router.post("/api/public/scores")
    async def langfuse_score(request: Request) -> Response:
        authorization = bearer_of_basic(request.headers.get("authorization"))
        tenant = keys.tenant_of(authorization)
        return json_response({"id": await scores.put(await read_body(request), tenant, authorization)})

    return router


def parse_since(text: str) -> float | None:
    """How far back, in seconds: ``7d``, ``12h``, ``30m``; None for ``all``.

    Raises:
        InvalidRequest: Anything else.
    """
    if text == "all":
        return None
    found = _SINCE.fullmatch(text)
    if found is None:
        raise InvalidRequest(
            f"'since' is {text[:32]!r}; send a number of days, hours or minutes such as 7d, 12h or 30m, or all.",
            param="since",
        )
    return int(found[1]) * _UNIT_S[found[2]]


def _tenant(request: Request, keys: KeyRing) -> str:
    return keys.tenant_of(request.headers.get("authorization"))


def _valid(text: str, check: Callable[[str], str]) -> str:
    try:
        return check(text)
    except ValueError as error:
        raise InvalidRequest(f"The id {text[:64]!r} {error}.", param="id") from None


def _events(body: Mapping[str, Any]) -> Sequence[object]:
    others = [name for name in body if name != "events"]
    if others:
        raise InvalidRequest(
            f"{others[0][:64]!r} came besides 'events'; put it into each event.",
            param=others[0][:64],
            code="unknown_parameter",
        )
    events = body["events"]
    if not isinstance(events, list) or not 1 <= len(events) <= MAX_BATCH:
        got = f"{len(events)} events" if isinstance(events, list) else "no list"
        raise InvalidRequest(f"'events' holds {got}; send a list of 1 to {MAX_BATCH}.", param="events")
    return events


def _stored(outcome: Outcome) -> LogAck:
    if isinstance(outcome, RheostatError):
        raise outcome
    return outcome


def _ack(ack: LogAck) -> dict[str, Any]:
    return {"event_id": ack.event_id, "durable": True, "duplicate": ack.duplicate}


def _batch_answer(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """A result an event, in order.

    Raises:
        Unavailable: Every event failed with it: nothing was stored, and the whole request can be repeated.
    """
    if all(isinstance(outcome, RheostatError) and outcome.http_status == 503 for outcome in outcomes):
        _stored(outcomes[0])
    return {
        "results": [
            {"status": outcome.http_status, **error_body(outcome)}
            if isinstance(outcome, RheostatError)
            else {"status": 200, **_ack(outcome)}
            for outcome in outcomes
        ]
    }
