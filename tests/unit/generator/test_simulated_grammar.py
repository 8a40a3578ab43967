"""Text in a structural tag is text that the tag accepts."""

import json
import random
import re
from typing import Any

import jsonschema
import pytest

from deployments.generator.simulated_grammar import write_in_grammar
from deployments.generator.simulated_prose import MARKER, Prose
from deployments.generator.simulated_tokens import split_tokens
from graph.errors import InvalidRequest

LINE = {"type": "regex", "pattern": r"[A-Z][^\n]{8,160}[.!?]"}
SEEDS = range(15)


def write(tag: dict[str, Any], seed: int = 0) -> str:
    rng = random.Random(seed)
    return write_in_grammar({"type": "structural_tag", "format": tag}, Prose(rng), rng)


def const(value: str) -> dict[str, Any]:
    return {"type": "const_string", "value": value}


def sequence(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"type": "sequence", "elements": list(elements)}


def write_json(schema: Any, seed: int = 0) -> Any:
    return json.loads(write({"type": "json_schema", "json_schema": schema}, seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_bullets_after_a_summary_keep_their_frame(seed: int) -> None:
    bullets = {"type": "repeat", "min": 3, "max": 7, "content": sequence(const("\n- "), LINE)}
    text = write(sequence(const("Summary: "), LINE, const("\n"), bullets), seed)
    assert re.fullmatch(r"Summary: [A-Z][^\n]{8,160}[.!?]\n(\n- [A-Z][^\n]{8,160}[.!?]){3,7}", text)
    lines = re.findall(r"(?<=- ).*", text)
    assert len(set(lines)) == len(lines)
    assert MARKER in text


@pytest.mark.parametrize(("low", "high", "allowed"), [(2, 2, {2}), (0, 1, {0, 1}), (1, -1, {1, 2, 3}), (0, 0, {0})])
def test_repeat_stays_between_its_bounds(low: int, high: int, allowed: set[int]) -> None:
    tag = {"type": "repeat", "min": low, "max": high, "content": const("x")}
    assert {len(write(tag, seed)) for seed in range(40)} == allowed


def test_or_and_optional_take_every_branch_sooner_or_later() -> None:
    either = {"type": "or", "elements": [const("a"), const("b")]}
    assert {write(either, seed) for seed in range(40)} == {"a", "b"}
    assert {write({"type": "optional", "content": const("a")}, seed) for seed in range(40)} == {"a", ""}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "bounds",
    [{}, {"max_chars": 300}, {"max_chars": 30}, {"max_chars": 5}, {"max_tokens": 12}, {"max_tokens": 0}],
)
def test_any_text_keeps_its_bounds(bounds: dict[str, int], seed: int) -> None:
    text = write({"type": "any_text", **bounds, "excludes": ["\n", "the"]}, seed)
    assert len(text) <= bounds.get("max_chars", 1000)
    assert len(split_tokens(text)) <= bounds.get("max_tokens", 1000)
    assert "the" not in text
    assert text or bounds in ({"max_chars": 5}, {"max_tokens": 0})


@pytest.mark.parametrize(
    "pattern",
    [
        LINE["pattern"],
        r"[A-Z][^\n]{8,16}[.!?]",
        r"[^\n]{400,900}",
        r"[a-z]+",
        r"^[a-z_]{3,20}$",
        r"\d{5}",
        "[A-Z]{3}",
    ],
)
def test_a_simple_pattern_is_met_as_a_whole(pattern: str) -> None:
    assert re.fullmatch(pattern, write({"type": "regex", "pattern": pattern}))


SCHEMAS: list[Any] = [
    True,
    {},
    {"type": "string", "minLength": 40, "maxLength": 50},
    {"type": "string", "maxLength": 3},
    {"type": "string", "minLength": 500},
    {"type": "string", "pattern": "^[a-z]{4,9}$"},
    {"type": "string", "format": "date"},
    {"type": "integer"},
    {"type": "integer", "minimum": 3, "maximum": 3},
    {"type": "integer", "exclusiveMinimum": -1, "exclusiveMaximum": 1},
    {"type": "integer", "maximum": -5},
    {"type": "integer", "minimum": 11, "multipleOf": 7},
    {"type": "integer", "minimum": 1.5},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "number", "maximum": 0.001, "minimum": 0.0001},
    {"type": "number", "minimum": 5},
    {"type": "number", "multipleOf": 0.5},
    {"type": "boolean"},
    {"type": "null"},
    {"type": ["null", "integer"]},
    {"const": {"a": [1]}},
    {"enum": ["red", "green"]},
    {"type": "array", "items": {"type": "integer"}},
    {"type": "array", "minItems": 4, "maxItems": 5, "items": {"type": "string"}},
    {"type": "array", "maxItems": 1},
    {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
    {"properties": {"a": {"type": "string"}}},
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["b", "c"]},
    {"type": "object", "minProperties": 3, "additionalProperties": {"type": "integer"}},
    {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    {"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"required": ["b"]}]},
    {
        "type": "object",
        "properties": {"pet": {"$ref": "#/$defs/pet"}, "tree": {"$ref": "#/$defs/tree"}},
        "required": ["pet", "tree"],
        "additionalProperties": False,
        "$defs": {
            "pet": {"oneOf": [{"type": "object", "properties": {"kind": {"const": "cat"}}, "required": ["kind"]}]},
            "tree": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}},
                },
                "required": ["name", "children"],
            },
        },
    },
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_a_json_schema_is_met(schema: Any) -> None:
    for seed in SEEDS:
        jsonschema.validate(write_json(schema, seed), schema)


def test_properties_come_in_the_order_of_the_schema() -> None:
    names = ["b", "a", "c"]
    schema = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "required": sorted(names),
    }
    assert list(write_json(schema)) == names


def test_a_long_enough_string_says_that_it_is_simulated() -> None:
    assert write_json({"type": "string"}) == MARKER


def test_the_same_seed_gives_the_same_text() -> None:
    tag = {"type": "any_text"}
    assert write(tag, 1) == write(tag, 1)
    assert write(tag, 1) != write(tag, 2)


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"$ref": "#"},
        {"$ref": "#/$defs/absent"},
        {"$ref": "https://example.com/schema"},
        {"$defs": {"a": {"properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]}}, "$ref": "#/$defs/a"},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "number", "minimum": 3, "exclusiveMaximum": 3},
        {"type": "array", "items": {"enum": [1]}, "minItems": 2, "uniqueItems": True},
        {"type": "string", "pattern": "("},
        {"type": "string", "pattern": "^x{3}-y$"},
    ],
    ids=str,
)
def test_a_schema_that_cannot_be_met_is_refused(schema: Any) -> None:
    with pytest.raises(InvalidRequest):
        write_json(schema)


def test_a_format_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="'triggered_tags'"):
        write(sequence(const("a"), {"type": "triggered_tags", "triggers": [], "tags": []}))
