"""What may be said about an answer: the body of POST /v1/feedback, checked, and the rows it becomes.

Pure: clock, ids, contracts and the token's claims are arguments. The ingress calls it; the rows go to the log writer.

| kind | value | text | besides |
|---|---|---|---|
| thumb | true is up, false is down | a reason, optional | ``name``: a boolean metric |
| rating | number in the range of its metric | optional | ``name``: a number metric |
| label | string, 1-64 characters, one of its metric's | optional | ``name``: a label metric |
| comment | - | required | |
| correction | - | the answer as it should have been | |
| preference | this, other | optional | ``other_generation_id`` |
| implicit | as its metric says: a number, or none | - | ``name``: an implicit metric |
| retract | - | optional | ``supersedes``: the event_id taken back |
| supersede | the new value, if any | the new text, if any | ``supersedes``: the event_id replaced |
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import uuid_utils
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from deployments.feedback.contracts import BUILT_IN, MAX_NUMBER, MetricContract, explain_unknown, is_label, is_number
from deployments.feedback.fields import (
    MAX_CORRECTION_BYTES,
    MAX_TAGS,
    MAX_TEXT_BYTES,
    EventId,
    GenerationId,
    Rater,
    SentEventId,
    Tags,
    Text,
    TimestampUs,
    Value,
    to_iso,
)
from deployments.feedback.schema import to_row
from deployments.feedback.tokens import MAX_TOKEN_CHARS, AnswerFacts
from graph.errors import InvalidRequest, RequestTooLarge, RheostatError

MAX_CLOCK_SKEW_US = 5 * 60 * 1_000_000
"""How far a sender's clock may be ahead of ours; it may be behind by any time, for what was kept offline."""

Kind = Literal["thumb", "rating", "label", "comment", "correction", "preference", "implicit", "retract", "supersede"]
_METRIC_KINDS = ("thumb", "rating", "label", "implicit")
_LONG_KINDS = ("correction", "supersede")
_CONTRACTS = "contracts"
"""Under which the contracts travel in pydantic's validation context."""
_TOO_LARGE = "too_large"
_SAME_ANSWER = "is the answer itself; allowed: the id of another answer"
_PREFERENCES = ("this", "other")


class FeedbackEvent(BaseModel):
    """The body of POST /v1/feedback, with what each kind asks for.

    `parse_event` makes it with the metrics of the configuration; ``model_validate`` alone knows the built-in ones.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    kind: Kind
    event_id: SentEventId | None = None
    """Makes a retry harmless. None: the server makes one, and a retry counts again."""
    feedback_token: Annotated[str, Field(min_length=1, max_length=MAX_TOKEN_CHARS)] | None = None
    """From the answer; or `generation_id`, exactly one of the two."""
    generation_id: GenerationId | None = None
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = None
    """The metric; None: the one that is called like the kind."""
    value: Value = None
    text: Text | None = None
    other_generation_id: GenerationId | None = None
    supersedes: EventId | None = None
    tags: Tags | None = None
    rater: Rater | None = None
    """Who says it, opaque; only a keyed hash of it is kept."""
    timestamp: TimestampUs = None
    """When it was said, by the sender's clock: us since 1970 UTC."""

    @model_validator(mode="after")
    def _check_kind(self, info: ValidationInfo) -> Self:
        faults = list(_faults_of(self, (info.context or {}).get(_CONTRACTS, BUILT_IN)))
        if faults:
            # A ValidationError, not a ValueError: pydantic then keeps each fault's field.
            details = [
                InitErrorDetails(
                    # As a value, never as the template: a brace in it would be taken for a placeholder.
                    type=PydanticCustomError(fault_type, "{problem}", {"problem": problem}),
                    loc=(field,),
                    input=None,
                )
                for field, fault_type, problem in faults
            ]
            raise ValidationError.from_exception_data("FeedbackEvent", details)
        return self


def new_event_id() -> str:
    """Return a new UUIDv7 (RFC 9562): unique, and roughly in order of time."""
    return str(uuid_utils.uuid7())


def parse_event(
    body: object, contracts: Mapping[str, MetricContract] = BUILT_IN, *, now_us: int | None = None
) -> FeedbackEvent:
    """Return the event that this decoded JSON body is.

    Args:
        body: Anything that a JSON parser returns.
        contracts: Metrics by name.
        now_us: Our clock, us since 1970 UTC; None: the sender's clock is not compared with it.

    Raises:
        InvalidRequest: ``param`` is the dotted path of the field at fault; the message says what is allowed.
        RequestTooLarge: The text is over the limit of its kind.
    """
    if not isinstance(body, Mapping):
        raise InvalidRequest("The body must be a JSON object with 'kind' and a 'feedback_token'.")
    _check_size(body)
    try:
        event = FeedbackEvent.model_validate(dict(body), context={_CONTRACTS: contracts})
    except ValidationError as error:
        raise _as_refusal(error) from error
    if event.timestamp is not None and now_us is not None and event.timestamp > now_us + MAX_CLOCK_SKEW_US:
        raise InvalidRequest(
            f"'timestamp' is {to_iso(event.timestamp)}, ahead of our clock at {to_iso(now_us)}; at most 5 minutes "
            "are allowed. Set the sender's clock, or leave the field out.",
            param="timestamp",
        )
    return event


def check_target(event: FeedbackEvent, target: Mapping[str, Any], contracts: Mapping[str, MetricContract]) -> None:
    """Hold a retract or supersede against the row that it names: a new value must fit that event's metric.

    Args:
        target: The row. One that supersedes has the metric's name of the event that it replaces.

    Raises:
        InvalidRequest, RequestTooLarge: As `parse_event`.
    """
    name = target["name"]
    if target["kind"] == "retract":
        raise InvalidRequest("'supersedes' names a retract; send the feedback itself anew.", param="supersedes")
    if event.kind == "retract":
        return
    contract = contracts.get(name)
    problem = None
    if contract is not None:
        problem = None if event.value is None else contract.fault_of(event.value)
    elif name == "preference":
        problem = None if event.value in (None, *_PREFERENCES) else "must be 'this' or 'other': the better answer"
    elif name in ("comment", "correction"):
        problem = None if event.value is None else f"is not for a {name}; use 'text'"
    if problem:
        raise InvalidRequest(f"'value' {problem}; the event that is replaced says so.", param="value")
    if name != "correction" and (too_long := _describe_length(event.text, MAX_TEXT_BYTES)):
        raise RequestTooLarge(f"'text' {too_long}.", param="text")


def to_event_row(
    event: FeedbackEvent,
    about: AnswerFacts,
    *,
    now_us: int,
    event_id: str,
    source_id: str | None = None,
    replaces: str | None = None,
) -> dict[str, Any]:
    """Return the whole row (see `schema.to_row`) of an event.

    Args:
        event: From `parse_event`.
        about: The verified token's claims, or what the log knows of the answer.
        now_us: Server's clock, us since 1970 UTC.
        event_id: The event's own, one from `new_event_id`, or one that the service derived.
        source_id: Keyed hash of the rater; None: unknown.
        replaces: Of a supersede: the metric's name of the event that it replaces, which becomes its own.

    Raises:
        InvalidRequest: A preference of an answer with itself, or an event under the answer's own id.
    """
    if event_id == about.generation_id:
        raise InvalidRequest(
            "'event_id' is the id of the answer, which its record has; send a new UUID of version 7 or 4.",
            param="event_id",
        )
    if event.other_generation_id == about.generation_id:
        raise InvalidRequest(f"'other_generation_id' {_SAME_ANSWER}.", param="other_generation_id")
    return to_row(
        {
            "event_id": event_id,
            "kind": event.kind,
            "generation_id": about.generation_id,
            "other_generation_id": event.other_generation_id,
            "tenant": about.tenant,
            "name": replaces or event.name or event.kind,
            _value_column(event.value): event.value,
            "text": event.text,
            "source_type": "implicit" if event.kind == "implicit" else "human",
            "source_id": source_id,
            "supersedes": event.supersedes,
            "model": about.model,
            "adapter": about.adapter,
            "arm": about.arm,
            "controls_hash": about.controls_hash,
            "ts_client_us": event.timestamp,
            "ts_server_us": now_us,
            "tags": event.tags or None,
        }
    )


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
    source_id: str | None = None,
    quality_score: float | None = None,
    failed_checks: Sequence[str] | None = None,
    answer_format: str | None = None,
    language: str | None = None,
    settings: Mapping[str, Any] | None = None,
    prompt_template: str | None = None,
    prompt_hash: str | None = None,
) -> dict[str, Any]:
    """Return the whole row of an answer. Its event_id is the generation's: recorded twice, it counts once.

    Args:
        prompt: Messages, ``{"role", "content"}`` each, as the caller sent them.
        answer: As delivered.
        outcome: A `contracts.Outcome`, or how the request ended instead.
        now_us: Server's clock, us since 1970 UTC.
        timings: Seconds by stage.
        source_id: Keyed hash of who asked; None: unknown.
        settings: Effective value of each dial and switch.
        prompt_template, prompt_hash: Group answers to the same system turns, and to the same question.

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
            "source_id": source_id,
            "quality_score": quality_score,
            "failed_checks": failed_checks,
            "answer_format": answer_format,
            "language": language,
            "settings": settings,
            "prompt_template": prompt_template,
            "prompt_hash": prompt_hash,
        }
    )


def _check_size(body: Mapping[str, Any]) -> None:
    """Refuse what pydantic would take time over: it checks every key and tag, however many there are."""
    for field in body:
        if field not in FeedbackEvent.model_fields:
            allowed = ", ".join(sorted(FeedbackEvent.model_fields))
            raise InvalidRequest(
                f"'{field[:128]}' is not a field of a feedback event; allowed: {allowed}.",
                field[:128],
                "unknown_parameter",
            )
    tags = body.get("tags")
    if isinstance(tags, Mapping) and len(tags) > MAX_TAGS:
        raise InvalidRequest(f"'tags' has {len(tags)} pairs; at most {MAX_TAGS}.", param="tags")


def _faults_of(event: FeedbackEvent, contracts: Mapping[str, MetricContract]) -> Iterator[tuple[str, str, str]]:
    """(field, error type, what is wrong and what is allowed) of what the types alone do not say."""
    limit = MAX_CORRECTION_BYTES if event.kind in _LONG_KINDS else MAX_TEXT_BYTES
    if too_long := _describe_length(event.text, limit):
        yield "text", _TOO_LARGE, too_long
    for field, problem in (*_subject_faults(event), *_content_faults(event, contracts)):
        yield field, "feedback_event", problem


def _subject_faults(event: FeedbackEvent) -> Iterator[tuple[str, str]]:
    """(field, problem) of what the event speaks of."""
    kind = event.kind
    if event.feedback_token is None and event.generation_id is None:
        yield "feedback_token", "is missing; allowed: the token of the answer, or its generation_id"
    if event.feedback_token is not None and event.generation_id is not None:
        yield "generation_id", "came besides a feedback_token; allowed: one of the two"

    if kind == "preference" and event.other_generation_id is None:
        yield "other_generation_id", "is missing; a preference compares two answers"
    if event.other_generation_id is not None:
        if kind != "preference" and (kind, event.name) != ("implicit", "regenerated"):
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


def _content_faults(event: FeedbackEvent, contracts: Mapping[str, MetricContract]) -> Iterator[tuple[str, str]]:
    """(field, problem) of the metric, its value and the text."""
    kind, name, value = event.kind, event.name, event.value
    has_text = bool(event.text and event.text.strip())
    if kind in _METRIC_KINDS:
        contract = contracts.get(name or kind)
        if contract is None or contract.kind != kind:
            yield "name", explain_unknown(name, kind, contracts)
        elif problem := contract.fault_of(value):
            yield "value", problem
    elif name not in (None, kind):
        yield "name", f"is only for {', '.join(_METRIC_KINDS)}; a {kind} speaks of no metric"

    match kind:
        case "preference":
            if value not in _PREFERENCES:
                yield "value", "must be 'this' or 'other': the better answer"
        case "comment" | "correction":
            if value is not None:
                yield "value", f"is not for a {kind}; use 'text'"
            if not has_text:
                yield "text", f"is missing or blank; a {kind} needs it"
        case "implicit":
            if event.text is not None:
                yield "text", "is not for implicit signals"
        case "retract":
            if value is not None:
                yield "value", "is not for a retract"
        case "supersede":
            if not (value is None or type(value) is bool or is_label(value) or _is_any_number(value)):
                yield "value", "must be true, false, a number or a label, as the metric of the replaced event says"
            if value is None and not has_text:
                yield "value", "is missing, and so is 'text'; send what is new"


def _describe_length(text: str | None, limit_bytes: int) -> str | None:
    """What is wrong with the length, or None."""
    if text is None or len(text) * 4 <= limit_bytes or (size := len(text.encode())) <= limit_bytes:
        return None
    return f"is {size} bytes; at most {limit_bytes}"


def _is_any_number(value: object) -> bool:
    return is_number(value, -MAX_NUMBER, MAX_NUMBER)


def _value_column(value: object) -> str:
    if isinstance(value, bool):
        return "value_bool"
    return "value_str" if isinstance(value, str) else "value_num"


def _as_refusal(error: ValidationError) -> RheostatError:
    """The first problem, in our words. The input is not echoed: it may be long, or private."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # Pydantic adds "[key]" to the path of a bad key; it is not a field of the caller's.
    path = ".".join(str(part) for part in first["loc"] if part != "[key]")[:128]
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    told = f"'{path}' {message[:1].lower()}{message[1:]}."
    if first["type"] == _TOO_LARGE:
        return RequestTooLarge(told, path)
    return InvalidRequest(told, path, "missing_required_parameter" if first["type"] == "missing" else None)
