"""From the body of ``POST /v1/feedback`` to a row of the log: who may say what about which answer. Pure."""

from typing import Any

from deployments.feedback.events import new_event_id, parse_event, to_event_row
from deployments.feedback.tokens import SigningKey, verify
from deployments.ingress.auth import KeyRing
from graph.errors import InvalidRequest


def feedback_row(
    body: Any, keys: KeyRing, authorization: str | None, token_key: SigningKey, now_s: float
) -> dict[str, Any]:
    """The row of one event, after its token was checked; no storage is read.

    Args:
        authorization: The request's header; may be absent, for the token says whose answer it is.
        now_s: Seconds since 1970 UTC.

    Raises:
        InvalidRequest: A faulty event, a token that is forged, expired or another tenant's.
        Unauthenticated: A key was sent and is not known.
    """
    event = parse_event(body)
    if event.feedback_token is None:
        raise InvalidRequest(
            "A generation_id alone proves nothing; send the feedback_token that came with the answer.",
            param="feedback_token",
            code="missing_required_parameter",
        )
    claims = verify(event.feedback_token, {token_key.key_id: token_key.secret}, now_s)
    if keys.required and authorization is not None and keys.tenant_of(authorization) != claims.tenant:
        raise InvalidRequest(
            "This feedback_token is another tenant's.", param="feedback_token", code="invalid_feedback_token"
        )
    return to_event_row(event, claims, now_us=int(now_s * 1e6), event_id=event.event_id or new_event_id())
