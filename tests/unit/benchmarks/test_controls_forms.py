"""The parsers of forms: what has the form passes, and whatever a reader would stumble over does not."""

import json

import pytest

from benchmarks.controls.forms import (
    bullets_fault,
    citations_fault,
    envelope_fault,
    schema_fault,
    steps_fault,
    summary_fault,
    summary_steps_fault,
)
from benchmarks.controls.prompts import PROMPT_SETS, all_prompts
from benchmarks.controls.sources import IDS, sources_of
from benchmarks.controls.switches import CALLERS_SCHEMA
from deployments.controls.schema_guard import check_schema

STEPS = "1. Boil the water.\n2. Add the tea!\n3. Wait."
BULLETS = "- Boil the water.\n- Add the tea.\n- Is it done?"


def test_good_steps_pass() -> None:
    assert steps_fault(STEPS) is None
    assert steps_fault("\n".join(f"{n}. Do it." for n in range(1, 8))) is None


@pytest.mark.parametrize(
    "text",
    [
        "1. Boil it.\n2. Add it.",
        "\n".join(f"{n}. Do it." for n in range(1, 9)),
        "1. Boil it.\n3. Add it.\n4. Wait.",
        "0. Boil it.\n1. Add it.\n2. Wait.",
        "1. Boil it.\n\n2. Add it.\n3. Wait.",
        "1. Boil it\n2. Add it.\n3. Wait.",
        "Here you are:\n1. Boil it.\n2. Add it.\n3. Wait.",
        "1) Boil it.\n2) Add it.\n3) Wait.",
        f"{STEPS}\n",
        "",
    ],
)
def test_steps_that_are_none_are_refused(text: str) -> None:
    assert steps_fault(text)


def test_good_bullets_pass() -> None:
    assert bullets_fault(BULLETS) is None


@pytest.mark.parametrize(
    "text", ["- One.\n- Two.", f"Some:\n{BULLETS}", "* One.\n* Two.\n* Three.", "- One.\n-\n- Three.", ""]
)
def test_bullets_that_are_none_are_refused(text: str) -> None:
    assert bullets_fault(text)


def test_a_good_envelope_passes() -> None:
    assert envelope_fault('{"answer": "Yes.", "key_points": ["a", "b"]}') is None


@pytest.mark.parametrize(
    "text",
    [
        '{"answer": "Yes.", "key_points": ["a"]',
        '{"answer": "Yes."}',
        '{"answer": "Yes.", "key_points": ["a"], "more": 1}',
        '{"answer": 1, "key_points": ["a"]}',
        '{"answer": "Yes.", "key_points": []}',
        '{"answer": "Yes.", "key_points": ["a", 2]}',
        '{"answer": "Yes.", "key_points": ["a", "b", "c", "d", "e", "f"]}',
        '["answer"]',
        '```json\n{"answer": "Yes.", "key_points": ["a"]}\n```',
    ],
)
def test_an_envelope_that_is_none_is_refused(text: str) -> None:
    assert envelope_fault(text)


def test_the_callers_schema_is_one_that_the_service_accepts() -> None:
    check_schema(CALLERS_SCHEMA)


def test_an_answer_to_the_callers_schema_is_held_to_it() -> None:
    good = {"title": "Tea", "difficulty": "easy", "minutes": 5, "is_safe": True, "points": ["a", "b"]}
    assert schema_fault(json.dumps(good), CALLERS_SCHEMA) is None
    for wrong in ({"minutes": 0}, {"minutes": "5"}, {"difficulty": "none"}, {"points": ["a"]}, {"more": 1}):
        assert schema_fault(json.dumps(good | wrong), CALLERS_SCHEMA)
    assert schema_fault("{", CALLERS_SCHEMA)


def test_a_summary_stands_alone_on_the_first_line() -> None:
    assert summary_fault("It is simple.\n\nBoil the water. Add the tea.") is None
    assert summary_fault("It is simple.\nBoil the water.")
    assert summary_fault("It is simple\n\nBoil the water.")
    assert summary_fault("It is simple.\n\n")
    assert summary_fault("It is\nsimple.\n\nBoil the water.")
    assert summary_fault("")


def test_steps_after_a_summary_are_steps() -> None:
    assert summary_steps_fault(f"It is simple.\n\n{STEPS}") is None
    assert summary_steps_fault(STEPS)
    assert summary_steps_fault(f"It is simple.\n\n\n{STEPS}")


def test_citations_name_sources_and_nothing_else() -> None:
    assert citations_fault("Water boils [1]. Tea is old [note-3.1].", IDS) is None
    assert citations_fault("Nothing is cited.", IDS) is None
    assert citations_fault("Water boils [4].", IDS)
    assert citations_fault("Water boils [1, b2].", IDS)
    assert citations_fault("Water boils [1.", IDS)
    assert citations_fault("Water boils 1].", IDS)
    assert citations_fault("Water boils [].", IDS)


def test_every_prompt_has_sources_of_its_own() -> None:
    prompts = [prompt for each in PROMPT_SETS for prompt in all_prompts(each)]
    texts = [source["text"] for prompt in prompts for source in sources_of(prompt.question)]
    assert len(texts) == len(set(texts)) == 3 * len(prompts) == 240
