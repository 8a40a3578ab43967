"""Schemas and values that cost: the comparison says what jsonschema says, and comes to an end."""

import contextlib
import json
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, SchemaError

from deployments.controls.schema_guard import check_schema
from deployments.validator.bounded_schema import TooMuchWork, find_mismatch

NAMES = st.sampled_from(["a", "b", "ab", "x1"])
SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, 2, 2.5, "", "a", "ab", "1"])
VALUES = st.recursive(
    SCALARS, lambda each: st.lists(each, max_size=4) | st.dictionaries(NAMES, each, max_size=3), max_leaves=8
)
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
PATTERNS = st.sampled_from(["^a", "b$", "^(a|b)+$", "[0-9]", "^a?b?$", "x"])


def _schemas(each: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(each, min_size=1, max_size=3)
    named = st.dictionaries(NAMES, each, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES,
            "const": VALUES,
            "enum": st.lists(VALUES, min_size=1, max_size=3),
            "minLength": st.integers(0, 2),
            "maximum": st.integers(0, 2),
            "multipleOf": st.sampled_from([1, 2, 0.5]),
            "pattern": st.sampled_from(["^a", "b$", "[0-9]", "^a?b?$"]),
            "items": each,
            "prefixItems": some,
            "contains": each,
            "uniqueItems": st.booleans(),
            "maxItems": st.integers(0, 3),
            "properties": named,
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$", "[0-9]"]), each, max_size=2),
            "additionalProperties": each,
            "propertyNames": each,
            "required": st.lists(NAMES, unique=True, max_size=2),
            "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, unique=True, max_size=2), max_size=2),
            "dependentSchemas": named,
            "allOf": some,
            "anyOf": some,
            "oneOf": some,
            "not": each,
            "if": each,
            "then": each,
            "else": each,
            "$ref": st.just("#/$defs/d"),
        },
    )


SCHEMAS = st.recursive(st.booleans() | st.builds(lambda kind: {"type": kind}, TYPES), _schemas, max_leaves=6)


@pytest.mark.exhaustive
@settings(max_examples=200, deadline=None)
@given(schema=_schemas(SCHEMAS), definition=st.builds(lambda kind: {"type": kind}, TYPES), value=VALUES)
def test_a_value_meets_a_schema_exactly_where_jsonschema_says_so(
    schema: dict[str, Any], definition: dict[str, Any], value: Any
) -> None:
    schema = {**schema, "$defs": {"d": definition}}
    assert (find_mismatch(value, schema) is None) == Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"properties": {"a": True}, "unevaluatedProperties": False}, {"a": 1}, {"b": 1}),
        ({"prefixItems": [True], "unevaluatedItems": False}, [1], [1, 2]),
    ],
)
def test_what_no_keyword_looked_at_can_be_refused(schema: dict[str, Any], good: Any, bad: Any) -> None:
    assert find_mismatch(good, schema) is None
    assert find_mismatch(bad, schema) is not None


def _array_of(item: str) -> str:
    return "[" + ",".join([item] * (64_000 // (len(item) + 1))) + "]"


def _in_array(items: dict[str, Any] | bool, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": {"type": "array", "items": items, **more}}}


def _unevaluated(depth: int) -> dict[str, Any]:
    return {"unevaluatedProperties": True, **({"allOf": [_unevaluated(depth - 1)]} if depth else {})}


NUMBERED = "{" + ",".join(f'"x{number}":{number}' for number in range(5_000)) + "}"
# All of them are accepted by the service, and all texts are of the largest size that it takes.
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "many constants for many items": (_in_array({"anyOf": [{"const": n} for n in range(900)]}), _array_of("9999")),
    "many constants for a long text": (
        {"type": "object", "properties": {"a": {"anyOf": [{"const": n} for n in range(900)]}}},
        json.dumps("x" * 64_000),
    ),
    "long list of values": (_in_array({"enum": list(range(3_000))}), _array_of("9999")),
    "empty alternatives": (_in_array({"oneOf": [{}] * 3_900}), _array_of("1")),
    "empty demands": (_in_array({"allOf": [{}] * 3_900}), _array_of("1")),
    "the items again and again": (
        {"type": "object", "properties": {"a": {"allOf": [{"items": {}}] * 1_000}}},
        _array_of("1"),
    ),
    "objects that cannot be sorted": (
        _in_array({}, uniqueItems=True),
        "[" + ",".join(f'{{"a":{number}}}' for number in range(6_000)) + "]",
    ),
    "names that are missing": (_in_array({"required": [f"n{n}" for n in range(1_500)]}), _array_of("{}")),
    "refused properties again and again": (
        {"type": "object", "properties": {"a": {"anyOf": [{"additionalProperties": False}] * 450}}},
        NUMBERED,
    ),
    "properties that nobody looked at": (
        {
            "type": "object",
            "properties": {"a": {"anyOf": [{"required": ["x1"]}] * 400, "unevaluatedProperties": False}},
        },
        NUMBERED,
    ),
    "properties that are looked at again and again": (
        {"type": "object", "properties": {"a": _unevaluated(12)}},
        NUMBERED,
    ),
    "items half of which nobody looked at": (
        {
            "type": "object",
            "properties": {"a": {"contains": {"type": "null"}, "unevaluatedItems": {"type": "integer"}}},
        },
        _array_of("1,null"),
    ),
    "pattern of four repetitions": (_in_array({"pattern": "a*a*a*a*b"}), _array_of(json.dumps("a" * 250))),
    "pattern of three repetitions for many items": (
        _in_array({"pattern": "a*a*a*b"}),
        _array_of(json.dumps("a" * 60)),
    ),
    "pattern of escaped repetitions": (_in_array({"pattern": r"\\*\\*\\*\\*x"}), _array_of(json.dumps("\\" * 250))),
    "pattern of alternatives": (_in_array({"pattern": "(a|a)" * 20 + "b"}), _array_of(json.dumps("a" * 40))),
    "pattern of bounded repetitions": (_in_array({"pattern": "a{0,16}" * 12 + "b"}), _array_of(json.dumps("a" * 200))),
    "patterns of names": (
        {"type": "object", "properties": {"a": {"patternProperties": {f"^x{n}.*y": {} for n in range(700)}}}},
        NUMBERED,
    ),
    "pattern of a long name": (
        {
            "type": "object",
            "properties": {"a": {"patternProperties": {"a*a*a*b": {}}, "additionalProperties": False}},
        },
        json.dumps({"a" * 60_000: 1}),
    ),
    "dialect inside": (
        _in_array({"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "a*a*a*a*b"}),
        _array_of(json.dumps("a" * 250)),
    ),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", HOSTILE)
def test_a_comparison_comes_to_an_end_soon(name: str) -> None:
    schema, text = HOSTILE[name]
    check_schema(schema)
    value = {"a": json.loads(text)}
    began = time.process_time()
    with contextlib.suppress(TooMuchWork):
        find_mismatch(value, schema)
    assert time.process_time() - began < 3


def test_a_pattern_of_names_is_not_run_to_find_those_that_nobody_looked_at() -> None:
    # The schema guard refuses the two together.
    inside = {"allOf": [{"patternProperties": {"a*a*a*b": {}}}], "unevaluatedProperties": False}
    began = time.process_time()
    with contextlib.suppress(TooMuchWork):
        find_mismatch({"a": {"a" * 60_000: 1}}, {"type": "object", "properties": {"a": inside}})
    assert time.process_time() - began < 3


def test_to_search_the_members_that_were_looked_at_is_counted_as_work() -> None:
    with pytest.raises(TooMuchWork):
        find_mismatch(json.loads(NUMBERED), _unevaluated(1))
    with pytest.raises(TooMuchWork):
        find_mismatch([1, None] * 8_000, {"contains": {"type": "null"}, "unevaluatedItems": {"type": "integer"}})


def test_numbers_that_python_hashes_to_the_same_are_compared_soon() -> None:
    numbers: list[Any] = [number * (2**61 - 1) for number in range(1, 40_000)]
    began = time.process_time()
    assert find_mismatch(numbers, {"uniqueItems": True}) is None
    assert find_mismatch([*numbers, float(2**61 - 1), 2**61], {"uniqueItems": True}) is not None
    assert time.process_time() - began < 3


@pytest.mark.parametrize("same", [[1, 1.0], [0, -0.0], [1e300, int(1e300)], [2**70, float(2**70)]])
def test_a_number_is_the_same_however_it_is_written(same: list[Any]) -> None:
    assert find_mismatch(same, {"uniqueItems": True}) is not None
    assert find_mismatch([2**53, 2**53 + 1, True, "1", 1.5, math.inf], {"uniqueItems": True}) is None


@pytest.mark.parametrize("pattern", ["a{99999999999999999999}", "(" * 3_000 + ")" * 3_000, "("])
def test_a_pattern_that_python_cannot_compile_is_the_schemas_fault(pattern: str) -> None:
    with pytest.raises(SchemaError):
        find_mismatch("a", {"pattern": pattern})


def test_a_schema_that_is_nested_too_deep_is_the_schemas_fault() -> None:
    schema: dict[str, Any] = {}
    for _ in range(2_000):
        schema = {"items": schema}
    with pytest.raises(SchemaError, match="RecursionError"):
        find_mismatch([], schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}},
        {"$dynamicAnchor": "n", "$dynamicRef": "#n"},
    ],
)
def test_a_reference_to_itself_ends(schema: dict[str, Any]) -> None:
    with pytest.raises(RecursionError):
        find_mismatch({}, schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": ["x" * 100 + str(number) for number in range(10_000)]},
        {"contentEncoding": "base64", "contentMediaType": "application/json", "contentSchema": {"type": "object"}},
        {"format": "email"},
        {"$vocabulary": {"http://localhost:1/": True}, "$schema": "http://localhost:1/"},
    ],
)
def test_a_keyword_that_asks_for_much_or_for_nothing_ends_soon(schema: dict[str, Any]) -> None:
    began = time.process_time()
    assert (find_mismatch("a", schema) is None) == ("enum" not in schema)
    assert time.process_time() - began < 1.5


def test_an_answer_of_the_largest_size_is_within_the_bounds() -> None:
    names = list("abcdefgh")
    entry = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    schema = {"items": {**entry, "required": names, "additionalProperties": False}}
    value = [dict.fromkeys(names, "rain falls")] * 500
    assert find_mismatch(value, schema) is None
    assert find_mismatch([*value, {}], schema) is not None


def test_a_property_may_be_called_like_a_keyword_that_is_dropped() -> None:
    schema = {"properties": {"$schema": {"type": "string"}}, "const": {"$schema": "x"}}
    assert find_mismatch({"$schema": "x"}, schema) is None
    assert find_mismatch({"$schema": 1}, {"properties": {"$schema": {"type": "string"}}}) is not None
