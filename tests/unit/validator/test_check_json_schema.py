"""The JSON check: broken documents, wrong ones, and a schema that is not ours to trust."""

from typing import Any

import jsonschema
import pytest
from referencing.exceptions import Unresolvable

from deployments.validator.bounded_schema import TooMuchWork
from deployments.validator.checks import json_schema
from deployments.validator.policy import QualityPolicy, judge
from graph.contracts import CheckContext
from graph.quality import is_crash

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}

CAUGHT = {
    "cut": '{"name": "Ada", "age"',
    "missing comma": '{"name": "Ada" "age": 36}',
    "prose before": 'Here it is: {"name": "Ada", "age": 36}',
    "code fence": '```json\n{"name": "Ada", "age": 36}\n```',
    "wrong key": '{"name": "Ada", "years": 36}',
    "missing key": '{"name": "Ada"}',
    "wrong type": '{"name": "Ada", "age": "36"}',
    "out of range": '{"name": "Ada", "age": -1}',
    "wrong item": '{"name": "Ada", "age": 36, "tags": [1]}',
    "not a number": '{"name": "Ada", "age": NaN}',
    "other root": '["Ada", 36]',
    "prose": "Ada is 36 years old.",
    "empty": "",
    "too deep": "[" * 100_000,
}


@pytest.mark.parametrize("name", CAUGHT)
def test_a_document_that_is_broken_or_wrong_is_found(name: str) -> None:
    (finding,) = json_schema.check(CAUGHT[name], CheckContext(json_schema=SCHEMA))
    assert finding.severity == "soft"
    assert len(finding.message) < 300


CAUGHT_BY = {
    "property too many": ({"additionalProperties": False}, '{"a": 1}', "additionalProperties false"),
    "item twice": ({"uniqueItems": True}, '[{"a": 1}, {"a": 1.0}]', "uniqueItems true"),
    "name that is not allowed": ({"patternProperties": {"^x": {"type": "integer"}}}, '{"x1": "a"}', 'type "integer"'),
    "nothing is allowed": ({"properties": {"a": False}}, '{"a": 1}', "$.properties: expected nothing"),
    "optional group": ({"pattern": "^[0-9]{5}(-[0-9]{4})?$"}, '"1234"', "pattern"),
}


@pytest.mark.parametrize("name", CAUGHT_BY)
def test_the_rule_that_is_not_met_is_told_as_the_schema_has_it(name: str) -> None:
    schema, text, rule = CAUGHT_BY[name]
    (finding,) = json_schema.check(text, CheckContext(json_schema=schema))
    assert rule in finding.message


PASSED = {
    "minimal": '{"name": "Ada", "age": 36}',
    "all keys": '{"name": "Ada", "age": 36, "tags": ["a", "b"]}',
    "empty array": '{"name": "Ada", "age": 0, "tags": []}',
    "spaces": '\n {\n  "name": "Ada",\n  "age": 36\n }\n',
    "escapes": '{"name": "\\u0041da \\"the\\" first\\n", "age": 36}',
    "other order": '{"age": 36, "name": "Ada"}',
    "other script": '{"name": "艾达", "age": 36}',
    "empty name": '{"name": "", "age": 36}',
}


@pytest.mark.parametrize("name", PASSED)
def test_a_document_that_meets_the_schema_passes(name: str) -> None:
    assert json_schema.check(PASSED[name], CheckContext(json_schema=SCHEMA)) == ()


def test_without_a_schema_prose_passes() -> None:
    assert json_schema.check("Ada is 36.", CheckContext()) == ()


def test_the_json_format_without_a_schema_asks_for_json_of_any_shape() -> None:
    assert json_schema.check("[1, 2]", CheckContext(answer_format="json")) == ()
    assert len(json_schema.check("[1, 2", CheckContext(answer_format="json"))) == 1


def test_a_reference_inside_the_schema_is_followed() -> None:
    schema = {"$defs": {"n": {"type": "integer"}}, "items": {"$ref": "#/$defs/n"}}
    assert json_schema.check("[1, 2]", CheckContext(json_schema=schema)) == ()
    assert len(json_schema.check('["a"]', CheckContext(json_schema=schema))) == 1


def test_a_reference_out_of_the_schema_is_refused_and_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*args: object, **kwargs: object) -> None:
        raise AssertionError("a schema made the server fetch something")

    monkeypatch.setattr("urllib.request.urlopen", fetch)
    schema = {"$ref": "http://localhost:1/other.json"}
    with pytest.raises(Exception) as caught:  # noqa: PT011 - jsonschema wraps it in a private class
        json_schema.check("[1]", CheckContext(json_schema=schema))
    assert isinstance(caught.value, Unresolvable)


def test_a_schema_that_is_none_is_told_apart_from_a_wrong_answer() -> None:
    with pytest.raises(jsonschema.SchemaError):
        json_schema.check("[1]", CheckContext(json_schema={"type": "no such type"}))


def test_a_pattern_is_checked() -> None:
    schema = {"type": "string", "pattern": "^[A-Z]{2}[0-9]+$"}
    assert json_schema.check('"AB12"', CheckContext(json_schema=schema)) == ()
    assert len(json_schema.check('"ab12"', CheckContext(json_schema=schema))) == 1


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^(a+)+$"},
        {"type": "string", "pattern": "^(a|a)*$"},
        {"type": "string", "pattern": "a*a*a*a*a*a*a*b"},
        {"type": "object", "patternProperties": {"^(a+)+$": {"type": "integer"}}, "additionalProperties": False},
    ],
)
def test_a_pattern_that_could_take_for_ever_is_not_run_and_no_silent_pass(schema: dict[str, Any]) -> None:
    value = "a" * 60 + "!"
    text = f'{{"{value}": 1}}' if schema["type"] == "object" else f'"{value}"'
    context = CheckContext(json_schema=schema, answer_format="json")
    with pytest.raises(TooMuchWork):
        json_schema.check(text, context)
    (finding,) = (f for f in judge(text, context, QualityPolicy()).findings if f.check == "json_schema")
    assert is_crash(finding)


def test_a_pattern_is_run_on_a_long_value_too() -> None:
    schema = {"type": "string", "pattern": "^[0-9]+$"}
    assert json_schema.check(f'"{"1" * 50_000}"', CheckContext(json_schema=schema)) == ()
    assert len(json_schema.check(f'"{"1" * 50_000}x"', CheckContext(json_schema=schema))) == 1


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("[" * 900 + "]" * 900, {"type": "array"}),
        ("[1e999]", {"items": {"multipleOf": 0.1}}),
        ("[" + "9" * 4000 + "]", {"items": {"multipleOf": 0.1}}),
        ("[" + "9" * 10_000 + "]", {}),
        ('{"a":' * 100_000, {}),
    ],
)
def test_a_value_that_cannot_be_compared_is_found(text: str, schema: dict[str, Any]) -> None:
    assert len(json_schema.check(text, CheckContext(json_schema=schema))) == 1


def test_a_comparison_that_takes_too_much_work_is_not_held_against_the_answer() -> None:
    schema = {"items": {"anyOf": [{"const": number} for number in range(900)]}}
    text = "[" + "9999," * 9_999 + "9999]"
    with pytest.raises(TooMuchWork):
        json_schema.check(text, CheckContext(json_schema=schema))
    verdict = judge(text, CheckContext(json_schema=schema, answer_format="json"), QualityPolicy())
    assert [finding.severity for finding in verdict.findings if finding.check == "json_schema"] == ["note"]


@pytest.mark.parametrize("schema", [{"type": "no such type"}, {"$ref": "http://localhost:1/x"}, {"$ref": "#"}])
def test_a_broken_answer_is_judged_by_a_schema_that_is_none(schema: dict[str, Any]) -> None:
    verdict = judge('{"a": 1,', CheckContext(json_schema=schema, answer_format="json"), QualityPolicy())
    assert (verdict.action, verdict.fixed_text) == ("regenerate", None)


def test_a_repair_that_takes_too_much_work_to_compare_is_none() -> None:
    schema = {"items": {"anyOf": [{"const": number} for number in range(900)]}}
    assert json_schema.explain_mismatch([9999] * 9_999, schema) is not None
