"""Which JSON schemas of a stranger are accepted, and which are refused before they cost anything."""

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.controls.pattern_guard import find_pattern_fault
from deployments.controls.schema_guard import PARAM, check_schema
from graph.errors import InvalidRequest


def refusal_of(schema: object) -> str:
    with pytest.raises(InvalidRequest) as caught:
        check_schema(schema)
    assert caught.value.param == PARAM == "response_format.json_schema.schema"
    return str(caught.value)


def make_schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth - 1):
        schema = make_schema(a=schema)
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        nested(16),
        make_schema(**{f"p{n}": {"type": "string"} for n in range(256)}),
        make_schema(when={"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}),
        {**make_schema(pet={"$ref": "#/$defs/pet"}), "$defs": {"pet": make_schema(name={"type": "string"})}},
        # words that are keywords elsewhere, as names and as values
        make_schema(**{"$ref": {"type": "string"}, "pattern": {"enum": ["(a+)+", {"$ref": "http://x"}]}}),
        {**make_schema(a={"type": "string", "maxLength": 5000}), "$schema": "http://json-schema.org/draft-07/schema#"},
    ],
)
def test_an_ordinary_schema_is_accepted(schema: dict[str, Any]) -> None:
    before = json.dumps(schema)
    check_schema(schema)
    assert json.dumps(schema) == before


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ([], "must be an object"),
        ({}, "the root must have type 'object'"),
        ({"type": "array"}, "got type 'array'"),
        ({"type": ["object"]}, "the root must have type 'object'"),
        (make_schema(a={"type": "strin"}), "#/properties/a/type: is not valid in draft 2020-12"),
        (nested(17), "16 schemas deep"),
        (make_schema(**{f"p{n}": {} for n in range(257)}), "got 257 properties; at most 256"),
        ({"type": "object", "description": "x" * 17_000}, "at most 16384"),
        (make_schema(a={"const": float("nan")}), "is not JSON"),
        (make_schema(a={"$ref": "https://example.com/x"}), "got 'https://example.com/x'; must be a name in $defs"),
        (make_schema(a={"$ref": "#"}), "must be a name in $defs"),
        (make_schema(a={"$ref": "#/$defs/missing"}), "must be a name in $defs"),
        (make_schema(a={"$dynamicRef": "#a"}), "$dynamicRef: is not supported"),
        ({**make_schema(), "$id": "https://example.com/x"}, "$id: is not supported"),
        (make_schema(a={"pattern": "(a+)+"}), "#/properties/a: got the pattern '(a+)+'"),
        (make_schema(a={"pattern": "a" * 129}), "at most 128 characters"),
        ({"type": "object", "patternProperties": {"(a*)*": {}}}, "may take for ever"),
        (make_schema(**{f"p{n}": {"type": "string", "maxLength": 100 + n} for n in range(9)}), "got 9 different"),
    ],
)
def test_a_schema_out_of_bounds_is_refused_with_the_place(schema: object, expected: str) -> None:
    message = refusal_of(schema)
    assert expected in message
    assert len(message) < 600


@pytest.mark.parametrize(
    "definitions",
    [
        {"a": make_schema(next={"$ref": "#/$defs/a"})},
        {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"items": {"$ref": "#/$defs/a"}}},
    ],
)
def test_a_definition_that_refers_to_itself_is_refused(definitions: dict[str, Any]) -> None:
    assert "refers to itself" in refusal_of({**make_schema(x={"$ref": "#/$defs/a"}), "$defs": definitions})


def test_unevaluated_properties_beside_patterns_of_names_are_refused_for_nobody_would_check_them() -> None:
    schema = make_schema(x={"type": "object", "patternProperties": {"^a": {}}})
    assert "unevaluatedProperties is not supported" in refusal_of({**schema, "unevaluatedProperties": False})
    check_schema(schema)
    check_schema({**make_schema(x={}), "unevaluatedProperties": False})


def test_references_that_multiply_are_refused_at_once() -> None:
    definitions: dict[str, Any] = {"d0": {"type": "string"}}
    for n in range(1, 5):
        definitions[f"d{n}"] = {"anyOf": [{"$ref": f"#/$defs/d{n - 1}"}] * 20}
    message = refusal_of({**make_schema(x={"$ref": "#/$defs/d4"}), "$defs": definitions})
    assert "more than 4096 schemas when references are written out" in message


def test_references_that_nest_too_deep_are_refused() -> None:
    definitions: dict[str, Any] = {"d0": {"type": "string"}}
    for n in range(1, 14):
        definitions[f"d{n}"] = {"items": {"$ref": f"#/$defs/d{n - 1}"}}
    message = refusal_of({**make_schema(x={"$ref": "#/$defs/d13"}), "$defs": definitions})
    assert "16 schemas deep when references are written out" in message


def test_a_nest_that_would_exhaust_the_stack_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100_000):
        schema = {"const": schema}
    message = refusal_of({"type": "object", "x": schema})
    while schema:  # taken apart step by step: freeing such a nest at once is as deep as walking it
        schema = schema.pop("const")
    assert "more than 64 deep" in message


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})?$",
        r"^([0-9]{1,3}\.){3}[0-9]{1,3}$",
        r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
        r"^(red|green|blue)$",
        r"^([0-9a-f]{12}-){12}$",
        r"[]a)+]+",
        r"[\]]+",
        r"\(a+\)+",
        "x{y}",
    ],
)  # fmt: skip
def test_an_ordinary_pattern_is_accepted(pattern: str) -> None:
    assert find_pattern_fault(pattern) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+",
        "(a*)*b",
        "((a)+)+",
        "(?:a+b?)*",
        "(a|a)*",
        "(a?){30}",
        "(a{1,9}){,9}",
        "((a{0,3}){0,4}){0,4}",
        "(.*){2,}",
        ".*.*.*.*.*",
        "a?" * 13,
        "a{129}",
        "a{2,129}",
        "((a{100}){100})",
        "(?=a)",
        "(?P<x>a)",
        "(?i)a",
        r"(a)\1",
        "(",
        "a**",
    ],
)
def test_a_pattern_that_may_never_end_is_refused(pattern: str) -> None:
    assert find_pattern_fault(pattern) is not None


@pytest.mark.filterwarnings("ignore:Possible")  # re tells of sets that it will read otherwise one day
@settings(deadline=None)
@given(st.text(alphabet="ab|()[]{}*+?,.0123\\^$-", max_size=24))
def test_an_accepted_pattern_is_matched_in_reasonable_time(pattern: str) -> None:
    if find_pattern_fault(pattern) is not None:
        return
    started = time.process_time()
    re.search(pattern, "ab" * 20 + "a" * 20 + "c")
    assert time.process_time() - started < 2
