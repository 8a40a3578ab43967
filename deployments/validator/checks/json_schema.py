"""Tells whether an answer is JSON and meets the caller's schema (JSON Schema, draft 2020-12)."""

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import SchemaError, ValidationError
from referencing.exceptions import Unresolvable

from deployments.validator.bounded_schema import TooMuchWork, find_mismatch
from deployments.validator.thresholds import DEFAULTS, Thresholds
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "check", "explain_mismatch"]

NAME = "json_schema"
SEVERITY: Severity = "soft"


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds an answer that is not JSON or does not meet the schema.

    Returns:
        One finding, or none; always none when no JSON is expected.

    Raises:
        jsonschema.SchemaError: The schema itself is not valid.
        referencing.exceptions.Unresolvable: It refers to something outside itself.
        TooMuchWork: Whether the answer meets it cannot be told in bounded time.
    """
    if context.json_schema is None and context.answer_format != "json":
        return ()
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return (Finding(NAME, SEVERITY, f"the text is not JSON: {_shorten(str(error))}"),)
    reason = None if context.json_schema is None else _compare(value, context.json_schema)
    return () if reason is None else (Finding(NAME, SEVERITY, reason),)


def explain_mismatch(value: Any, schema: Mapping[str, Any] | None) -> str | None:
    """What keeps a parsed value from meeting ``schema``; None: it meets it, or there is no schema.

    Where that cannot be told, in bounded time or at all, it is taken not to meet it. Raises nothing.
    """
    try:
        return None if schema is None else _compare(value, schema)
    except TooMuchWork as error:
        return str(error)
    except (SchemaError, Unresolvable) as error:
        return f"the schema cannot be met: {type(error).__name__}"


def _compare(value: Any, schema: Mapping[str, Any]) -> str | None:
    try:
        mismatch = find_mismatch(value, schema)
    except RecursionError:
        return "the JSON is nested too deep to be compared with the schema"
    except OverflowError:
        return "the JSON holds a number that is too large to be compared with the schema"
    if mismatch is None:
        return None
    # Never the value, nor a key that only the answer has: a finding is shown where the value itself may be redacted.
    written = json.dumps(mismatch.validator_value, ensure_ascii=False)
    rule = "nothing" if mismatch.validator is None else f"{mismatch.validator} {written}"
    return f"the JSON does not meet the schema at {_schema_path(mismatch)}: expected {_shorten(rule)}"


def _schema_path(mismatch: ValidationError) -> str:
    """Where in the schema, since those names are the caller's own."""
    return "$" + "".join(f".{part}" for part in mismatch.absolute_schema_path)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _shorten(message: str) -> str:
    return message if len(message) <= 200 else message[:197] + "..."
