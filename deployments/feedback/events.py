"""What may be said about an answer: the body of POST /v1/feedback, checked, and the rows it becomes.

Pure: clock, ids and the token's claims are arguments. The ingress calls it; the rows go to the log writer.

| kind | value | text | besides |
|---|---|---|---|
| thumb | true is up, false is down | a reason, optional | |
| rating | number in the range of its ``name``'s contract | optional | |
| label | string, 1-64 characters | optional | |
| comment | - | required | |
| correction | - | the answer as it should have been | |
| preference | this, other | optional | ``other_generation_id`` |
| implicit | dwell: seconds; else none | - | ``name``: copied, regenerated, abandoned, dwell |
| retract | - | optional | ``supersedes``: the event_id taken back |
| supersede | the new value, if any | the new text, if any | ``supersedes``: the event_id replaced |
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import uuid_utils
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from deployments.feedback.schema import to_row
from deployments.feedback.tokens import MAX_TOKEN_CHARS, TokenClaims
from graph.errors import InvalidRequest

MAX_TEXT_BYTES = 16 * 1024
MAX_TAGS = 16
MAX_TAG_KEY_CHARS = 64
MAX_TAG_VALUE_CHARS = 512
MAX_LABEL_CHARS = 64
MAX_DWELL_S = 7 * 24 * 3600.0
MAX_NUMBER = 1e12
"""Of a superseding value, whose contract is that of the event it replaces."""

Kind = Literal["thumb", "rating", "label", "comment", "correction", "preference", "implicit", "retract", "supersede"]
IMPLICIT_NAMES = ("copied", "regenerated", "abandoned", "dwell")

# The canonical form only: UUID() would also take braces, a URN or no hyphens, each another spelling of one id.
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class RatingContract:
    """The range of a rating, both ends allowed."""

    lowest: float = 1.0
    highest: float = 5.0


DEFAULT_RATING = RatingContract()
_RATINGS = "ratings"
"""Under which the contracts travel in pydantic's validation context."""
_SAME_ANSWER = "is the answer itself; allowed: the id of another answer"


def _check_uuid(text: str) -> str:
    if not _UUID.fullmatch(text):
        raise ValueError("must be a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057")
    return text.lower()


def _check_unicode(text: str) -> str:
    # JSON can spell half a surrogate pair ("\\ud800"); UTF-8, and so the log, cannot hold it.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode text; it holds half a surrogate pair") from None
    return text


def _check_text(text: str) -> str:
    if (size := len(_check_unicode(text).encode())) > MAX_TEXT_BYTES:
        raise ValueError(f"is {size} bytes; at most {MAX_TEXT_BYTES}")
    return text


def _check_value(value: Any) -> bool | int | float | str | None:
    if value is not None and type(value) not in (bool, int, float, str):
        raise ValueError("must be true, false, a number or a string")
    if type(value) is str:
        return _check_unicode(value)
    return value  # type: ignore[no-any-return]


EventId = Annotated[str, AfterValidator(_check_uuid)]
GenerationId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
Tags = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=MAX_TAG_KEY_CHARS), AfterValidator(_check_unicode)],
        Annotated[str, Field(max_length=MAX_TAG_VALUE_CHARS), AfterValidator(_check_unicode)],
    ],
    Field(max_length=MAX_TAGS),
]


class FeedbackEvent(BaseModel):
    """The body of POST /v1/feedback, with what each kind asks for.

    `parse_event` makes it with the ratings' contracts; ``model_validate`` alone takes `DEFAULT_RATING` for all.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    kind: Kind
    event_id: EventId | None = None
    """Makes a retry harmless. None: the server makes one, and a retry counts again."""
    feedback_token: Annotated[str, Field(min_length=1, max_length=MAX_TOKEN_CHARS)] | None = None
    """From the answer; or `generation_id`, exactly one of the two."""
    generation_id: GenerationId | None = None
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = None
    """The metric; None: the kind."""
    value: Annotated[bool | int | float | str | None, PlainValidator(_check_value)] = None
    text: Annotated[str, AfterValidator(_check_text)] | None = None
    other_generation_id: GenerationId | None = None
    supersedes: EventId | None = None
    tags: Tags | None = None

    @model_validator(mode="after")
    def _check_kind(self, info: ValidationInfo) -> Self:
        faults = list(_faults_of(self, (info.context or {}).get(_RATINGS, {})))
        if faults:
            # A ValidationError, not a ValueError: pydantic then keeps each fault's field.
            details = [
                InitErrorDetails(
                    # As a value, never as the template: a brace in it would be taken for a placeholder.
                    type=PydanticCustomError("feedback_event", "{problem}", {"problem": problem}),
                    loc=(field,),
                    input=None,
                )
                for field, problem in faults
            ]
            raise ValidationError.from_exception_data("FeedbackEvent", details)
        return self


def new_event_id() -> str:
    """Return a new UUIDv7 (RFC 9562): unique, and roughly in order of time."""
    return str(uuid_utils.uuid7())


def parse_event(body: object, ratings: Mapping[str, RatingContract] = MappingProxyType({})) -> FeedbackEvent:
    """Return the event that this decoded JSON body is.

    Args:
        body: Anything that a JSON parser returns.
        ratings: Range by rating name; others get `DEFAULT_RATING`.

    Raises:
        InvalidRequest: ``param`` is the dotted path of the field at fault; the message says what is allowed.
    """
    if not isinstance(body, Mapping):
        raise InvalidRequest("The body must be a JSON object with 'kind' and a 'feedback_token'.")
    try:
        return FeedbackEvent.model_validate(dict(body), context={_RATINGS: ratings})
    except ValidationError as error:
        raise _as_invalid_request(error) from error


def to_event_row(
    event: FeedbackEvent,
    claims: TokenClaims | None,
    *,
    now_us: int,
    event_id: str,
    tenant: str = "default",
    source_id: str | None = None,
) -> dict[str, Any]:
    """Return the whole row (see `schema.to_row`) of an event.

    Args:
        event: From `parse_event`.
        claims: Of the verified token; None: the event names its generation itself, and model, adapter, arm and
            controls are left for the reader to join.
        now_us: Server's clock, us since 1970 UTC.
        event_id: The event's own, or one from `new_event_id`.
        tenant: Whose API key it was; the token's tenant comes first.
        source_id: Keyed hash of the rater; None: unknown.

    Raises:
        InvalidRequest: A preference of an answer with itself.
    """
    generation_id = claims.generation_id if claims else event.generation_id
    if generation_id is not None and event.other_generation_id == generation_id:
        raise InvalidRequest(f"'other_generation_id' {_SAME_ANSWER}.", param="other_generation_id")
    row: dict[str, Any] = {
        "event_id": event_id,
        "kind": event.kind,
        "generation_id": generation_id,
        "other_generation_id": event.other_generation_id,
        "tenant": claims.tenant if claims else tenant,
        "name": event.name or event.kind,
        _value_column(event.value): event.value,
        "text": event.text,
        "source_type": "implicit" if event.kind == "implicit" else "human",
        "source_id": source_id,
        "supersedes": event.supersedes,
        "ts_server_us": now_us,
        "tags": event.tags or None,
    }
    if claims is not None:
        row |= {
            "model": claims.model,
            "adapter": claims.adapter,
            "arm": claims.arm,
            "controls_hash": claims.controls_hash,
        }
    return to_row(row)


def generation_row(
    *,
    generation_id: str,
    tenant: str,
    model: str,
    prompt: Sequence[Mapping[str, Any]],
    answer: str,
    outcome: str,
    now_us: int,
    adapter: str | None = None,
    arm: str | None = None,
    controls_hash: str | None = None,
    controls: Mapping[str, Any] | None = None,
    quality: Mapping[str, Any] | None = None,
    timings: Mapping[str, float] | None = None,
    versions: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the whole row of an answer. Its event_id is the generation's: recorded twice, it counts once.

    Args:
        prompt: Messages, ``{"role", "content"}`` each, as the caller sent them.
        answer: As delivered.
        outcome: A `contracts.Outcome`, or how the request ended instead.
        now_us: Server's clock, us since 1970 UTC.
        timings: Seconds by stage.

    Raises:
        InvalidRequest: A value does not fit its column.
    """
    return to_row(
        {
            "event_id": generation_id,
            "kind": "generation",
            "generation_id": generation_id,
            "tenant": tenant,
            "model": model,
            "adapter": adapter,
            "arm": arm,
            "controls_hash": controls_hash,
            "ts_server_us": now_us,
            "tags": tags or None,
            "prompt": prompt,
            "answer": answer,
            "controls": controls,
            "quality": quality,
            "timings": timings,
            "versions": versions,
            "outcome": outcome,
            "extra": extra,
        }
    )


def _faults_of(event: FeedbackEvent, ratings: Mapping[str, RatingContract]) -> Iterator[tuple[str, str]]:
    """(field, what is wrong and what is allowed) of what the types alone do not say."""
    kind, name, value = event.kind, event.name, event.value
    has_text = bool(event.text and event.text.strip())
    if event.feedback_token is None and event.generation_id is None:
        yield "feedback_token", "is missing; allowed: the token of the answer, or its generation_id"
    if event.feedback_token is not None and event.generation_id is not None:
        yield "generation_id", "came besides a feedback_token; allowed: one of the two"

    if kind == "preference" and event.other_generation_id is None:
        yield "other_generation_id", "is missing; a preference compares two answers"
    if event.other_generation_id is not None:
        if kind != "preference" and (kind, name) != ("implicit", "regenerated"):
            yield "other_generation_id", "is only for a preference, or for implicit 'regenerated'"
        elif event.other_generation_id == event.generation_id:
            yield "other_generation_id", _SAME_ANSWER

    if kind in ("retract", "supersede"):
        if event.supersedes is None:
            yield "supersedes", f"is missing; a {kind} names the event_id it speaks of"
        elif event.supersedes == event.event_id:
            yield "supersedes", "is the event itself; allowed: the event_id of an earlier one"
    elif event.supersedes is not None:
        yield "supersedes", "is only for retract and supersede"

    match kind:
        case "thumb":
            if type(value) is not bool:
                yield "value", "must be true (up) or false (down)"
        case "rating":
            contract = ratings.get(name or "rating", DEFAULT_RATING)
            if not _is_number(value, contract.lowest, contract.highest):
                yield "value", f"must be a number from {contract.lowest:g} to {contract.highest:g}"
        case "label":
            if not _is_label(value):
                yield "value", f"must be a string of 1 to {MAX_LABEL_CHARS} characters, not blank"
        case "preference":
            if value not in ("this", "other"):
                yield "value", "must be 'this' or 'other': the better answer"
        case "comment" | "correction":
            if value is not None:
                yield "value", f"is not for a {kind}; use 'text'"
            if not has_text:
                yield "text", f"is missing or blank; a {kind} needs it"
        case "implicit":
            if name not in IMPLICIT_NAMES:
                yield "name", f"must be one of {', '.join(IMPLICIT_NAMES)}"
            if name == "dwell" and not _is_number(value, 0.0, MAX_DWELL_S):
                yield "value", f"must be seconds from 0 to {MAX_DWELL_S:g}"
            if name != "dwell" and value is not None:
                yield "value", "is only for 'dwell' among the implicit signals"
            if event.text is not None:
                yield "text", "is not for implicit signals"
        case "retract":
            if value is not None:
                yield "value", "is not for a retract"
        case "supersede":
            if not (value is None or type(value) is bool or _is_label(value) or _is_any_number(value)):
                yield "value", f"must be true, false, a number or a label of 1 to {MAX_LABEL_CHARS} characters"
            if value is None and not has_text:
                yield "value", "is missing, and so is 'text'; send what is new"


def _is_any_number(value: object) -> bool:
    return _is_number(value, -MAX_NUMBER, MAX_NUMBER)


def _is_number(value: object, lowest: float, highest: float) -> bool:
    # type(), not isinstance: True is an int. Compared as is: float() of a huge integer raises.
    return type(value) in (int, float) and lowest <= value <= highest  # type: ignore[operator]


def _is_label(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and len(value) <= MAX_LABEL_CHARS


def _value_column(value: object) -> str:
    if isinstance(value, bool):
        return "value_bool"
    return "value_str" if isinstance(value, str) else "value_num"


def _as_invalid_request(error: ValidationError) -> InvalidRequest:
    """The first problem, in our words. The input is not echoed: it may be long, or private."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # Pydantic adds "[key]" to the path of a bad key; it is not a field of the caller's.
    path = ".".join(str(part) for part in first["loc"] if part != "[key]")[:128]
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(sorted(FeedbackEvent.model_fields))
        return InvalidRequest(f"'{path}' is not a field of a feedback event; allowed: {allowed}.", param=path)
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return InvalidRequest(f"'{path}' {message[:1].lower()}{message[1:]}.", param=path)
