"""The local fixes: what they mend, and when they leave it."""

import json

import pytest

from deployments.validator.checks import CHECKS
from deployments.validator.fixes import FIXES, cut_repeated_tail, redact, repair_json, trim_to_sentence
from deployments.validator.policy import QualityPolicy, judge
from graph.contracts import CheckContext, Finding

TEXT = "Call +49 30 901820 or write to jane@acme.com today."


def make_finding(kind: str, start: int, end: int) -> Finding:
    return Finding("pii", "hard", f"{kind}: reason", (start, end))


def test_every_fix_belongs_to_a_check() -> None:
    assert set(FIXES) <= set(CHECKS)


def test_redaction_replaces_each_span_by_its_kind() -> None:
    findings = [make_finding("e-mail", 31, 44), make_finding("phone number", 5, 18)]
    assert redact(TEXT, findings) == "Call [redacted phone number] or write to [redacted e-mail] today."


def test_spans_that_overlap_become_one_redaction() -> None:
    findings = [make_finding("e-mail", 31, 44), make_finding("secret", 36, 50), make_finding("part", 33, 35)]
    assert redact(TEXT, findings) == "Call +49 30 901820 or write to [redacted e-mail]."


def test_redaction_without_spans_changes_nothing() -> None:
    assert redact(TEXT, [Finding("pii", "hard", "e-mail: reason")]) == TEXT


@pytest.mark.parametrize(
    ("text", "trimmed"),
    [
        ("It rains. The sun shines. Then the wi", "It rains. The sun shines."),
        ("It rains! Does it? Then the wi", "It rains! Does it?"),
        ('She said: "It rains." Then the', 'She said: "It rains."'),
        ("It rains, e.g. in May. Then Dr. Smi", "It rains, e.g. in May."),
        ("It costs 3.50 euros. Then it", "It costs 3.50 euros."),
        ("雨落在山上。然后风把云带", "雨落在山上。"),
        ("It rains. ", "It rains."),
        ("Pack:\n\n- a coat\n- two boots\n- a ma", "Pack:\n\n- a coat\n- two boots"),
        ("1. Boil the water\n2. Add the pasta\n3. Ser", "1. Boil the water\n2. Add the pasta"),
        ("First, boil the water.\n\n```sh\nmak", "First, boil the water."),
    ],
)
def test_a_trim_keeps_whole_sentences(text: str, trimmed: str) -> None:
    assert trim_to_sentence(text) == trimmed


@pytest.mark.parametrize(
    "text",
    ["Yes. " + "the word goes on " * 10, "no end at all in sight", "", "```python\nfor x in range(", "1. Boil the wat"],
)
def test_a_trim_that_would_leave_under_a_third_is_refused(text: str) -> None:
    assert trim_to_sentence(text) is None


def test_a_repeated_tail_is_cut_to_one_copy() -> None:
    copy = "The water rises from the sea and falls. "
    assert cut_repeated_tail("It begins well. " + copy * 5) == "It begins well. " + copy.strip()
    for rest in ("The water rises", "The water ri"):
        assert cut_repeated_tail("It begins well. " + copy * 5 + rest) == "It begins well. " + copy.strip()


def test_a_text_without_a_loop_has_no_tail_to_cut() -> None:
    assert cut_repeated_tail("It begins well and it ends well.") is None


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize(
    "broken",
    ['{"a": 1', "{'a': 1}", '{"a": 1,}', 'Here it is: {"a": 1}', '```json\n{"a": 1}\n```', "{a: 1}", '{"a": 1}\n'],
)
def test_broken_json_is_repaired_when_it_then_meets_the_schema(broken: str) -> None:
    repaired = repair_json(broken, SCHEMA)
    assert repaired is not None
    assert json.loads(repaired) == {"a": 1}


@pytest.mark.parametrize("hopeless", ['{"b": 1', "prose without any data", "", '{"a": "x"}', "[" * 5_000, "{" * 50_000])
def test_json_that_cannot_meet_the_schema_is_left(hopeless: str) -> None:
    assert repair_json(hopeless, SCHEMA) is None


def test_a_number_that_json_cannot_hold_is_not_repaired_into_what_is_no_json() -> None:
    assert judge('{"a": 1e999,}', CheckContext(json_schema={"type": "object"}), QualityPolicy()).fixed_text is None


def test_a_repair_keeps_other_scripts_readable() -> None:
    assert repair_json('{"a": 1, "b": "艾达"', SCHEMA) == '{"a": 1, "b": "艾达"}'


@pytest.mark.parametrize(
    "written", [r'{"a": "\ud800",}', r'{"a": "x\udfffy",}', r'{"\udc00": 1,}', r'{"a": "\ud83d\ude00",}']
)
def test_a_repaired_document_can_always_be_sent(written: str) -> None:
    repaired = repair_json(written, {"type": "object"})
    assert repaired is not None
    repaired.encode()
    assert json.loads(repaired) == json.loads(written.replace(",}", "}"))
