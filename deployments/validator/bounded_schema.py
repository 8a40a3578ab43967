"""Compares a stranger's value with a stranger's schema (JSON Schema, draft 2020-12), in bounded time. Pure.

The rules are those of ``jsonschema``. What is added: references are never fetched, patterns are run only where they
cannot take long, every keyword that is applied is counted, and no message of a mismatch is written out.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import extend
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # ships no types

from deployments.validator.pattern_steps import estimate_steps

__all__ = ["MAX_STEPS", "TooMuchWork", "find_mismatch"]

MAX_STEPS = 100_000
"""Keywords applied to values, and members that they go through: at most about eight microseconds each."""
_MAX_MISMATCHES = 100
"""The best of the first so many is told."""
_MAX_MATCHED = 100_000
"""Characters of a value that a pattern is run on."""
_MAX_PATTERN_STEPS = 10_000_000
"""What all runs of patterns together may come to: about a quarter of a second."""
_MAX_PATTERNS = 64
"""Different ones that are run in one comparison: Python keeps 512 compiled ones for everybody."""


class TooMuchWork(Exception):
    """Whether a value meets its schema cannot be told in bounded time."""


def find_mismatch(value: Any, schema: Mapping[str, Any]) -> ValidationError | None:
    """What best says why ``value`` does not meet ``schema``; None: it meets it.

    Args:
        value: Parsed JSON.
        schema: As JSON can write it.

    Returns:
        A mismatch whose ``message`` says nothing; its ``validator_value`` is the schema's.

    Raises:
        jsonschema.SchemaError: The schema itself is not valid, or nested too deep.
        referencing.exceptions.Unresolvable: It refers to something outside itself.
        TooMuchWork: The comparison takes more than MAX_STEPS, or all is met but patterns that may take too long.
        RecursionError: The value is nested too deep, hundreds of levels.
        OverflowError: It holds a number that is too large to be divided.
    """
    try:
        validator = _compile(json.dumps(dict(schema)))
    except (RecursionError, OverflowError) as error:
        # A pattern may be what is too deep, or repeat something too often: Python's re lets both out.
        raise SchemaError(f"too deep or too large: {type(error).__name__}") from error
    token = _work.set(_Work())
    try:
        mismatch: ValidationError | None = best_match(islice(validator.iter_errors(_abridge(value)), _MAX_MISMATCHES))
        if mismatch is None and _work.get().is_unsure:
            raise TooMuchWork("whether the JSON matches a pattern of the schema would take too long to tell")
        return mismatch
    finally:
        _work.reset(token)


@lru_cache(maxsize=32)
def _compile(written: str) -> Any:
    """The validator of a schema, which is given as JSON. One answer is compared up to four times."""
    schema = json.loads(written)
    Draft202012Validator.check_schema(schema)
    # At a subschema with $schema, jsonschema would go on with its own keywords. For unevaluatedProperties it
    # would run the patterns of names itself.
    dropped = {"$schema", "unevaluatedProperties"} if '"patternProperties"' in written else {"$schema"}
    # The default registry would fetch remote references over HTTP.
    return _Validator(_abridge(_drop(schema, dropped)), registry=REGISTRY)


_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_DATA = frozenset({"const", "enum", "default", "examples"})


def _drop(schema: Any, dropped: set[str]) -> Any:
    """The schema without those keywords; properties of that name stay."""
    if isinstance(schema, list):
        return [_drop(each, dropped) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, dict):
            kept[key] = {name: _drop(each, dropped) for name, each in value.items()}
        elif key not in dropped:
            kept[key] = value if key in _DATA else _drop(value, dropped)
    return kept


# jsonschema writes value and schema into the message of every mismatch, also of those that are never told. Where
# each of a thousand alternatives mismatches, that takes seconds: these write themselves in a word.
class _Object(dict[str, Any]):
    size = 1
    """Values that it holds, at any depth, and itself."""

    def __repr__(self) -> str:
        return "object"


class _Array(list[Any]):
    size = 1
    """As above."""

    def __repr__(self) -> str:
        return "array"


class _String(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return "string"


def _abridge(value: Any) -> Any:
    """A copy of JSON, equal to it, that writes itself in a word."""
    if isinstance(value, str):
        return _String(value)
    if isinstance(value, dict):
        copied = _Object((key, _abridge(each)) for key, each in value.items())
        copied.size = 1 + sum(map(_size, copied.values()))
        return copied
    if isinstance(value, list):
        items = _Array(map(_abridge, value))
        items.size = 1 + sum(map(_size, items))
        return items
    return value


def _size(value: Any) -> int:
    return value.size if isinstance(value, _Object | _Array) else 1


def _length(value: Any) -> int:
    return len(value) if isinstance(value, _Object | _Array) else 0


class _Work:
    """What one comparison has come to."""

    def __init__(self) -> None:
        self.steps = 0
        self.pattern_steps = 0.0
        self.patterns: set[str] = set()
        self.is_unsure = False
        """A pattern was not run."""

    def add(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise TooMuchWork(f"whether the JSON meets the schema cannot be told in {MAX_STEPS} steps")

    def has_match(self, pattern: str, text: str) -> bool | None:
        """Whether ``pattern`` matches somewhere in ``text``; None: that may take too long to tell."""
        self.patterns.add(pattern)
        steps = estimate_steps(pattern, len(text)) if len(text) <= _MAX_MATCHED else math.inf
        if self.pattern_steps + steps > _MAX_PATTERN_STEPS or len(self.patterns) > _MAX_PATTERNS:
            self.is_unsure = True
            return None
        self.pattern_steps += steps
        return re.search(pattern, text) is not None


_work: ContextVar[_Work] = ContextVar("bounded_schema_work")

_Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


def _check_pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and _work.get().has_match(pattern, instance) is False:
        yield ValidationError("no match")


def _check_pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if isinstance(instance, dict):
        for pattern, subschema in patterns.items():
            for name, value in instance.items():
                if _work.get().has_match(pattern, name):
                    yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _check_additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, value in instance.items():
        if name in named or any(_work.get().has_match(pattern, name) is not False for pattern in patterns):
            continue
        if allowed is False:
            yield ValidationError("one property too many")
            return
        yield from validator.descend(value, allowed, path=name)


def _check_unique_items(validator: Any, is_wanted: bool, instance: Any, schema: Any) -> Iterator[ValidationError]:
    # jsonschema compares each item with each other one where they cannot be sorted.
    if is_wanted and isinstance(instance, list) and len(set(map(_freeze, instance))) < len(instance):
        yield ValidationError("an item twice")


def _freeze(value: Any) -> Any:
    """A key that is the same for the same JSON: 1 and 1.0 are the same, 1 and true are not."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, int | float):
        # As text: of numbers themselves, everybody can write ten thousand that Python hashes to the same.
        is_whole = isinstance(value, int) or value.is_integer()
        return ("number", str(int(value) if is_whole else value))
    if isinstance(value, list):
        return ("array", *map(_freeze, value))
    if isinstance(value, dict):
        return ("object", frozenset((key, _freeze(each)) for key, each in value.items()))
    return value


_OWN: Mapping[str, _Keyword] = {
    "pattern": _check_pattern,
    "patternProperties": _check_pattern_properties,
    "additionalProperties": _check_additional_properties,
    "uniqueItems": _check_unique_items,
}

_CHEAP = 16
"""Members that are only looked up or compared, to one step."""
_SEARCHED = 400
"""Names or numbers of members that are searched for one, to one step."""
_Members = Callable[[Any, Any], int]


def _count_searched(instance: Any) -> int:
    """jsonschema searches a list of the members that were looked at for each member."""
    return _length(instance) * (1 + _length(instance) // _SEARCHED)


_MEMBERS: Mapping[str, _Members] = {
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "required", "dependentSchemas"), lambda value, _: len(value)),
    **dict.fromkeys(
        ("items", "contains", "propertyNames", "additionalProperties"),
        lambda _, instance: _length(instance),
    ),
    **dict.fromkeys(("unevaluatedItems", "unevaluatedProperties"), lambda _, instance: _count_searched(instance)),
    **dict.fromkeys(("const", "enum", "dependentRequired"), lambda value, _: _size(value) // _CHEAP),
    "properties": lambda value, _: len(value) // _CHEAP,
    "patternProperties": lambda value, instance: len(value) * _length(instance),
    "uniqueItems": lambda _, instance: _size(instance) // 4,
}
"""Steps that a keyword takes besides its own one and those of the keywords that it applies: the members that it goes
through, by the keyword's value and what it is applied to."""


def _count(keyword: str, apply: _Keyword) -> _Keyword:
    """The keyword, counted as work."""
    count_members = _MEMBERS.get(keyword, lambda value, instance: 0)

    def apply_counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        _work.get().add(1 + count_members(value, instance))
        yield from apply(validator, value, instance, schema) or ()

    return apply_counted


_Validator = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {name: _count(name, _OWN.get(name, apply)) for name, apply in Draft202012Validator.VALIDATORS.items()},
)
