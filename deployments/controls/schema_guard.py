"""Bounds on a JSON schema that a stranger sent, before a grammar compiler or a validator works on it.

A schema can be small and ruinous: references that double at each step, patterns that backtrack without end, a
thousand string lengths that each take the grammar compiler a second. Pure; called by the ingress.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError

from deployments.controls.hint import shown
from deployments.controls.pattern_guard import find_pattern_fault
from graph.errors import InvalidRequest

PARAM = "response_format.json_schema.schema"
"""Where a chat request has its schema."""

MAX_BYTES = 16 * 1024
MAX_DEPTH = 16
"""Schemas inside schemas, references included."""
MAX_JSON_DEPTH = 64
"""vLLM 0.32 refuses more (``vllm/sampling_params.py``, MAX_STRUCTURED_OUTPUT_JSON_NESTING)."""
MAX_PROPERTIES = 256
MAX_EXPANDED = 4096
"""Subschemas with every reference written out: what a validator may have to walk."""
CHEAP_LENGTH = 64
MAX_LENGTHS = 8
"""Different string lengths above CHEAP_LENGTH: each costs xgrammar 0.2.8 about 0.6 s (measured, 49k tokens)."""

# Keywords of draft 2020-12 that hold schemas: one, a list, or a map (https://json-schema.org/draft/2020-12).
_ONE = frozenset(
    {"additionalProperties", "items", "contains", "not", "if", "then", "else", "propertyNames"}
    | {"unevaluatedItems", "unevaluatedProperties", "contentSchema"}
)
_LIST = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_MAP = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))
_REFUSED = ("$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$id", "$anchor")
_LOCAL_REF = re.compile(r"#/\$defs/([^/]+)\Z")


def check_schema(schema: object, at: str = PARAM) -> None:
    """Accept a JSON schema that is bounded in every way that costs us, or refuse it.

    Args:
        schema: The parsed JSON.
        at: Where it stood in the request, for the error's ``param``.

    Accepted: draft 2020-12, an object at the root, at most 16 KiB as JSON, 16 schemas deep, 256 properties, only
    local references (``#/$defs/name``) that don't recur, and harmless patterns (see ``pattern_guard``).

    Raises:
        InvalidRequest: ``param`` is ``at``; the message names the place inside.
    """
    try:
        _check(schema)
    except _Fault as fault:
        place = f"{at}#{fault.where if fault.where.startswith('/') else f'/{fault.where}'}" if fault.where else at
        raise InvalidRequest(f"{place[:200]}: {fault.reason}", at) from None


class _Fault(Exception):
    """What is wrong, and where in the schema: a path with slashes, empty for the root."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.where, self.reason = where, reason


def _check(schema: object) -> None:
    if not isinstance(schema, Mapping):
        raise _Fault("", f"got {shown(schema)}; must be an object.")
    _check_size(schema)
    if schema.get("type") != "object":
        raise _Fault("", f"got type {shown(schema.get('type'))}; the root must have type 'object'.")
    try:
        # Not by its formats: that would compile every pattern, of any size, before the pattern guard saw it.
        Draft202012Validator.check_schema(dict(schema), format_checker=FormatChecker(()))
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path))
        raise _Fault(where, f"is not valid in draft 2020-12: {error.message[:200]}.") from None
    definitions = schema.get("$defs", {})
    walk = _Walk(definitions)
    walk.visit(schema, "", 1)
    if len(walk.keywords) > 1:
        # jsonschema would run the patterns of names itself, for as long as they take.
        raise _Fault("", "unevaluatedProperties is not supported where there are patternProperties.")
    if walk.properties > MAX_PROPERTIES:
        raise _Fault("", f"got {walk.properties} properties; at most {MAX_PROPERTIES} in all.")
    if len(walk.lengths) > MAX_LENGTHS:
        raise _Fault(
            "",
            f"got {len(walk.lengths)} different minLength and maxLength above {CHEAP_LENGTH}; at most {MAX_LENGTHS}. "
            "Use the same length in several places.",
        )
    _expand(schema, "", walk, {}, ())


class _Walk:
    """One pass over the schema as it is written."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self.definitions = definitions
        self.properties = 0
        self.lengths: set[int] = set()
        self.keywords: set[str] = set()
        """Those that it has anywhere, of two that are not supported together."""

    def visit(self, schema: Any, where: str, depth: int) -> None:
        if not isinstance(schema, Mapping):
            return
        if depth > MAX_DEPTH:
            raise _Fault(where, f"is more than {MAX_DEPTH} schemas deep.")
        for keyword in _REFUSED:
            if keyword in schema:
                raise _Fault(f"{where}/{keyword}", "is not supported; refer with $ref to '#/$defs/name'.")
        self.keywords |= schema.keys() & {"patternProperties", "unevaluatedProperties"}
        self._check_reference(schema, where)
        self.properties += len(schema.get("properties", ()))
        self.lengths |= {schema[key] for key in ("minLength", "maxLength") if schema.get(key, 0) > CHEAP_LENGTH}
        patterns = [schema["pattern"]] if "pattern" in schema else []
        for pattern in (*patterns, *schema.get("patternProperties", ())):
            if fault := find_pattern_fault(pattern):
                raise _Fault(where, f"got the pattern {shown(pattern)}; {fault}")
        for step, child in _children(schema):
            self.visit(child, f"{where}/{step}", depth + 1)

    def _check_reference(self, schema: Mapping[str, Any], where: str) -> None:
        if "$ref" not in schema:
            return
        match = _LOCAL_REF.match(schema["$ref"])
        if match is None or match[1] not in self.definitions:
            known = ", ".join(f"#/$defs/{name}" for name in list(self.definitions)[:8]) or "none is defined"
            raise _Fault(f"{where}/$ref", f"got {shown(schema['$ref'])}; must be a name in $defs: {known}.")


def _expand(
    schema: Any, where: str, walk: _Walk, known: dict[str, tuple[int, int]], path: tuple[str, ...]
) -> tuple[int, int]:
    """Subschemas and depth with references written out; ``known`` holds those of each definition."""
    if not isinstance(schema, Mapping):
        return 1, 0
    parts = [
        (child, f"{where}/{step}")
        for step, child in _children(schema)
        if not step.startswith(("$defs/", "definitions/"))
    ]
    sizes = [_expand(child, at, walk, known, path) for child, at in parts]
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        if name in path:
            raise _Fault(f"{where}/$ref", f"{name!r} refers to itself; a grammar of bounded size cannot.")
        if name not in known:
            known[name] = _expand(walk.definitions[name], f"/$defs/{name}", walk, known, (*path, name))
        sizes.append(known[name])
    count = 1 + sum(size for size, _ in sizes)
    depth = 1 + max((deep for _, deep in sizes), default=0)
    if count > MAX_EXPANDED:
        raise _Fault(where, f"comes to more than {MAX_EXPANDED} schemas when references are written out.")
    if depth > MAX_DEPTH:
        raise _Fault(where, f"is more than {MAX_DEPTH} schemas deep when references are written out.")
    return count, depth


def _children(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for keyword, value in schema.items():
        if keyword in _ONE:
            yield keyword, value
        elif keyword in _LIST:
            yield from ((f"{keyword}/{index}", child) for index, child in enumerate(value))
        elif keyword in _MAP:
            yield from ((f"{keyword}/{name}", child) for name, child in value.items())


def _check_size(schema: Mapping[str, Any]) -> None:
    level: list[Any] = [schema]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            child
            for value in level
            for child in (value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ())
        ]
    if level:
        raise _Fault("", f"nests objects and arrays more than {MAX_JSON_DEPTH} deep.")
    try:
        size_bytes = len(json.dumps(schema, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode())
    except (TypeError, ValueError) as error:
        raise _Fault("", f"is not JSON: {error}.") from None
    if size_bytes > MAX_BYTES:
        raise _Fault("", f"has {size_bytes} bytes as JSON; at most {MAX_BYTES}.")
