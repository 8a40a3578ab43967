"""Tells whether an answer is JSON and meets the caller's schema (JSON Schema, draft 2020-12).

The schema is the caller's: its references are never fetched, and its patterns are run only where they cannot
take exponential time on the model's text.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import extend
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # ships no types

from deployments.validator.thresholds import DEFAULTS, Thresholds
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "check", "explain_mismatch"]

NAME = "json_schema"
SEVERITY: Severity = "soft"
_MAX_PATTERN = 256
_MAX_MATCHED = 256
"""Characters of a value that a pattern is run on; longer values are taken to match."""
# A quantified group, a back-reference or a lookaround may need exponential time, many open repeats a high power.
_COSTLY = re.compile(r"\)[*+{?]|\\[1-9]|\(\?")
_WIDE = re.compile(r"(?<!\\)[*+]|\{\d*,\d*\}")
_MAX_WIDE = 3


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds an answer that is not JSON or does not meet the schema.

    Returns:
        One finding, or none; always none when no JSON is expected.

    Raises:
        jsonschema.SchemaError: The schema itself is not valid.
        referencing.exceptions.Unresolvable: It refers to something outside itself.
    """
    if context.json_schema is None and context.answer_format != "json":
        return ()
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return (Finding(NAME, SEVERITY, f"the text is not JSON: {_shorten(str(error))}"),)
    reason = explain_mismatch(value, context.json_schema)
    return () if reason is None else (Finding(NAME, SEVERITY, reason),)


def explain_mismatch(value: Any, schema: Mapping[str, Any] | None) -> str | None:
    """What keeps a parsed value from meeting ``schema``; None: it meets it, or there is no schema."""
    if schema is None:
        return None
    Draft202012Validator.check_schema(schema)
    # The default registry would fetch remote references over HTTP.
    error = best_match(_Validator(_drop_costly_names(schema), registry=REGISTRY).iter_errors(value))
    if error is None:
        return None
    # Never the value, nor a key that only the answer has: a finding is shown where the value itself may be redacted.
    rule = _shorten(f"{error.validator} {error.validator_value!r}")
    return f"the JSON does not meet the schema at {_schema_path(error)}: expected {rule}"


def _schema_path(error: ValidationError) -> str:
    """Where in the schema, since those names are the caller's own."""
    return "$" + "".join(f".{part}" for part in error.absolute_schema_path)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _shorten(message: str) -> str:
    return message if len(message) <= 200 else message[:197] + "..."


def _is_cheap(pattern: str) -> bool:
    return len(pattern) <= _MAX_PATTERN and not _COSTLY.search(pattern) and len(_WIDE.findall(pattern)) <= _MAX_WIDE


def _check_pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, str) or len(instance) > _MAX_MATCHED or not _is_cheap(pattern):
        return
    if not re.search(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator = extend(Draft202012Validator, {"pattern": _check_pattern})  # type: ignore[no-untyped-call]


def _drop_costly_names(schema: Any) -> Any:
    """The schema without patternProperties that are costly, and without what depends on them."""
    if isinstance(schema, list):
        return [_drop_costly_names(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    names = schema.get("patternProperties")
    is_costly = isinstance(names, Mapping) and not all(map(_is_cheap, names))
    dropped = {"patternProperties", "additionalProperties", "unevaluatedProperties"} if is_costly else set()
    return {key: _drop_costly_names(value) for key, value in schema.items() if key not in dropped}
