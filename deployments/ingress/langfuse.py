"""Langfuse's ``POST /api/public/scores`` as our events. Pure translation; the events then go the way of all others.

Fields as of Langfuse 4 (https://github.com/langfuse/langfuse, ``fern/apis/server/definition/scores.yml``): null
stands for absent. ``observationId``, else ``traceId``, is the generation; sessions and dataset runs are refused. A
correction has the name ``output``. Without ``dataType`` the metric's contract decides. ``id`` is the sender's own:
the same id again is no new score but an update of the first.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from deployments.feedback.contracts import MetricContract
from deployments.feedback.fields import MAX_TAG_VALUE_CHARS, check_generation_id
from deployments.feedback.markers import derive_id
from deployments.ingress.shims import find_contract, value_event
from graph.errors import InvalidRequest

KEPT_AS_TAGS = ("environment", "configId", "queueId", "source")
FIELDS = (
    "id", "traceId", "observationId", "sessionId", "datasetRunId", "name", "value", "dataType", "comment", "metadata",
    *KEPT_AS_TAGS,
)  # fmt: skip
CORRECTION_NAME = "output"
MAX_ID_CHARS = 256
_KIND_OF_TYPE = {"NUMERIC": ("rating", "implicit"), "BOOLEAN": ("thumb", "implicit"), "CATEGORICAL": ("label",)}
_MAX_DEPTH = 8


def translate(body: object, contracts: Mapping[str, MetricContract]) -> tuple[str | None, dict[str, Any]]:
    """(the sender's id or None, the body of our event).

    Raises:
        InvalidRequest: ``param`` is their field.
    """
    given = _given(body)
    score_id = given.get("id")
    event: dict[str, Any] = {
        "generation_id": _generation_id(given),
        **_said(given, contracts),
    }
    tags = dict(_tags(given))
    if event["kind"] == "correction" and "comment" in given:
        # The corrected text has the place of a comment.
        tags["comment"] = given["comment"]
    elif "comment" in given:
        event["text"] = given["comment"]
    if tags:
        event["tags"] = tags
    return score_id, event


def event_id_of(score_id: str, tenant: str) -> str:
    """The event_id of the first score with this id; two tenants may use the same."""
    return derive_id("langfuse", tenant, score_id)


def names_of(event: Mapping[str, Any]) -> dict[str, str]:
    """Their field names by ours, for errors about ``event``."""
    text = "value" if event["kind"] == "correction" else "comment"
    return {"generation_id": "traceId", "text": text, "tags": "metadata", "event_id": "id"}


def update(event: Mapping[str, Any], replaced: str, latest: str) -> tuple[str, dict[str, Any]] | None:
    """(event_id, body) of the event that replaces what an earlier score with the same id said.

    None: it says neither value nor text.

    Its id follows from the state that it changes and from what it says, so that a retry is the same event, and a change
    back and forth is one event each time.

    Args:
        event: The new score, from `translate`.
        replaced: event_id of the first.
        latest: event_id of the one that counts until now.
    """
    said = {name: event[name] for name in ("value", "text") if event.get(name) is not None}
    if not said:
        return None
    return derive_id("langfuse update", latest, repr(sorted(said.items()))), {
        "kind": "supersede",
        "generation_id": event["generation_id"],
        "supersedes": replaced,
        "tags": event.get("tags"),
        **said,
    }


def _generation_id(given: Mapping[str, Any]) -> str:
    """An observation is one answer; a trace without one is taken for it."""
    field = "observationId" if "observationId" in given else "traceId"
    try:
        return check_generation_id(given[field])
    except ValueError as error:
        raise InvalidRequest(f"'{field}' {error}.", param=field) from None


def _given(body: object) -> dict[str, Any]:
    """The fields that are not null, of the right types."""
    if not isinstance(body, Mapping):
        raise InvalidRequest("The body must be a JSON object with 'traceId', 'name' and 'value'.")
    for field in body:
        if field not in FIELDS:
            raise InvalidRequest(
                f"'{field[:64]}' is not a field of a score; allowed: {', '.join(FIELDS)}.",
                param=field[:64],
                code="unknown_parameter",
            )
    given = {field: value for field, value in body.items() if value is not None}
    for field in ("sessionId", "datasetRunId"):
        if field in given:
            raise InvalidRequest(
                f"Scores are kept for single answers only; send a 'traceId' or 'observationId' in place of '{field}'.",
                param=field,
            )
    for field in FIELDS:
        if field in given and field not in ("value", "metadata") and not isinstance(given[field], str):
            raise InvalidRequest(f"'{field}' must be a string.", param=field, code="invalid_type")
    for field in ("name", "value"):
        if field not in given:
            raise InvalidRequest(f"'{field}' is missing.", param=field, code="missing_required_parameter")
    if "traceId" not in given and "observationId" not in given:
        raise InvalidRequest(
            "'traceId' is missing; send the id of the answer.", param="traceId", code="missing_required_parameter"
        )
    if not 0 < len(given.get("id", "-")) <= MAX_ID_CHARS:
        raise InvalidRequest(f"'id' must have 1 to {MAX_ID_CHARS} characters.", param="id")
    return given


def _said(given: Mapping[str, Any], contracts: Mapping[str, MetricContract]) -> dict[str, Any]:
    name, value, data_type = given["name"], given["value"], given.get("dataType")
    if name == CORRECTION_NAME:
        if data_type not in (None, "CORRECTION", "CATEGORICAL"):
            raise InvalidRequest(
                f"'dataType' of {CORRECTION_NAME!r} must be CORRECTION: it is the corrected answer.", param="dataType"
            )
        if not isinstance(value, str):
            raise InvalidRequest("'value' of a correction must be a string.", param="value", code="invalid_type")
        return {"kind": "correction", "text": value}
    contract = find_contract(name, "name", contracts)
    if data_type is not None and contract.kind not in _KIND_OF_TYPE.get(data_type, ()):
        fitting = [kind for kind, kinds in _KIND_OF_TYPE.items() if contract.kind in kinds]
        raise InvalidRequest(
            f"'dataType' is {data_type[:32]!r}; the metric {name!r} takes {' or '.join(fitting)}.", param="dataType"
        )
    takes_boolean = contract.kind == "thumb" or (contract.kind == "implicit" and contract.lowest is None)
    if takes_boolean and value in (0, 1):
        value = bool(value)
    return value_event(contract, value)


def _tags(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Metadata flattened to pairs of texts, by dotted paths, and the fields that have no place of their own."""
    yield from _flatten(given.get("metadata", {}), "", _MAX_DEPTH)
    for field in KEPT_AS_TAGS:
        if field in given:
            yield field, given[field]


def _flatten(value: object, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth == 0:
        raise InvalidRequest(f"'metadata' is more than {_MAX_DEPTH} deep; flatten it.", param="metadata")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{path}.{key}" if path else key, depth - 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _flatten(inner, f"{path}.{index}" if path else str(index), depth - 1)
    elif value is not None:
        text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
        if len(text) > MAX_TAG_VALUE_CHARS:
            raise InvalidRequest(
                f"'metadata.{path[:64]}' has {len(text)} characters; at most {MAX_TAG_VALUE_CHARS}.",
                param=f"metadata.{path[:64]}",
            )
        yield path or "metadata", text
