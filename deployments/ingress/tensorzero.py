"""TensorZero's ``POST /feedback`` as our event. Pure translation; the event then goes the way of all others.

Fields as of TensorZero 2026.4 (https://www.tensorzero.com/docs/gateway/api-reference/feedback): exactly one of
``inference_id`` and ``episode_id``, ``metric_name`` (``comment`` and ``demonstration`` are reserved), ``value``,
``tags``, ``dryrun``; unknown fields are refused, null stands for absent. Its own clients also send ``internal``,
which means nothing here. Unlike there, an answer of 200 means that the feedback is on disk.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from deployments.feedback.contracts import MetricContract
from deployments.ingress.shims import find_contract, value_event
from graph.errors import InvalidRequest

FIELDS = ("inference_id", "episode_id", "metric_name", "value", "tags", "dryrun", "internal")
NAMES = {"generation_id": "inference_id", "name": "metric_name", "text": "value"}
"""Their field names by ours, for errors."""


def translate(body: object, contracts: Mapping[str, MetricContract]) -> tuple[dict[str, Any], bool]:
    """(the body of our event, whether it is a dry run).

    Raises:
        InvalidRequest: ``param`` is their field.
    """
    if not isinstance(body, Mapping):
        raise InvalidRequest("The body must be a JSON object with 'inference_id', 'metric_name' and 'value'.")
    for field in body:
        if field not in FIELDS:
            raise InvalidRequest(
                f"'{field[:64]}' is not a field of feedback; allowed: {', '.join(FIELDS)}.",
                param=field[:64],
                code="unknown_parameter",
            )
    given = {field: value for field, value in body.items() if value is not None}
    if "episode_id" in given:
        raise InvalidRequest(
            "Feedback is kept for single answers only; send the 'inference_id' of the answer in place of 'episode_id'.",
            param="episode_id",
        )
    for field, kind, said in (
        ("inference_id", str, "the id of an answer"),
        ("metric_name", str, "a string"),
    ):
        if field not in given:
            raise InvalidRequest(f"'{field}' is missing.", param=field, code="missing_required_parameter")
        if not isinstance(given[field], kind):
            raise InvalidRequest(f"'{field}' must be {said}.", param=field, code="invalid_type")
    for field in ("dryrun", "internal"):
        if not isinstance(given.get(field, False), bool):
            raise InvalidRequest(f"'{field}' must be true or false.", param=field, code="invalid_type")
    if "value" not in given:
        raise InvalidRequest("'value' is missing.", param="value", code="missing_required_parameter")
    event = {
        "generation_id": given["inference_id"],
        "tags": given.get("tags"),
        **_said(given["metric_name"], given["value"], contracts),
    }
    return event, given.get("dryrun", False)


def _said(metric: str, value: object, contracts: Mapping[str, MetricContract]) -> dict[str, Any]:
    if metric == "comment":
        if not isinstance(value, str):
            raise InvalidRequest("'value' of a comment must be a string.", param="value", code="invalid_type")
        return {"kind": "comment", "text": value}
    if metric == "demonstration":
        return {"kind": "correction", "text": _demonstrated(value)}
    return value_event(find_contract(metric, "metric_name", contracts), value)


def _demonstrated(value: object) -> str:
    """The answer as it should have been: a text, content blocks of text, or a JSON object."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(_is_text_block(block) for block in value):
        return "".join(block["text"] for block in value)
    if isinstance(value, Mapping):
        try:
            return orjson.dumps(value).decode()
        except orjson.JSONEncodeError:
            raise InvalidRequest("'value' of the demonstration is nested too deep.", param="value") from None
    raise InvalidRequest(
        "'value' of a demonstration must be a string, a list of {'type': 'text', 'text': ...}, or a JSON object.",
        param="value",
        code="invalid_type",
    )


def _is_text_block(block: object) -> bool:
    return isinstance(block, Mapping) and block.get("type") == "text" and isinstance(block.get("text"), str)
