"""The check of a model slot: what the pool measured, held against the slot's bound."""

from typing import Any

import pytest

from deployments.validator.checks.model_score import is_measurable, make_check, premise_of
from deployments.validator.thresholds import DEFAULTS
from graph.contracts import CheckContext, Finding

TEXT = "Rain falls when warm air rises."


def check(score: float | None, context: Any = None, text: str = TEXT, kind: Any = "text", **bound: Any) -> Any:
    context = context or CheckContext(model_scores={} if score is None else {"toxicity": score})
    run = make_check("toxicity", kind, "toxic", bound.get("at_most"), bound.get("at_least"))
    return run(text, context, DEFAULTS)


@pytest.mark.parametrize(
    ("bound", "score", "is_found"),
    [
        ({"at_most": 0.5}, 0.51, True),
        ({"at_most": 0.5}, 0.5, False),
        ({"at_most": 0.0}, 1e-9, True),
        ({"at_least": 0.5}, 0.49, True),
        ({"at_least": 0.5}, 0.5, False),
        ({"at_least": 1.0}, 0.999, True),
    ],
)
def test_a_score_beyond_its_bound_is_found(bound: dict[str, float], score: float, is_found: bool) -> None:
    findings = check(score, **bound)
    assert bool(findings) is is_found
    for finding in findings:
        assert (finding.check, finding.severity, finding.span) == ("toxicity", "soft", None)


def test_the_message_names_the_class_the_score_and_the_bound() -> None:
    (finding,) = check(0.912, at_most=0.5)
    assert finding == Finding("toxicity", "soft", "toxic has a probability of 0.912; at most 0.5 is expected")
    (finding,) = check(0.02, at_least=0.7)
    assert finding.message == "toxic has a probability of 0.02; at least 0.7 is expected"


def test_a_text_that_nobody_measured_does_not_pass() -> None:
    with pytest.raises(LookupError):
        check(None, at_most=0.5)


def test_where_there_is_nothing_to_classify_nothing_is_found() -> None:
    assert check(None, text=" \n", at_most=0.5) == ()
    assert check(None, kind="pair", at_least=0.5) == ()
    assert not is_measurable("pair", TEXT, CheckContext(system=" "))
    assert is_measurable("pair", TEXT, CheckContext(prompt="Why?"))
    assert is_measurable("text", TEXT, CheckContext())


def test_a_pair_is_measured_against_all_that_the_caller_sent_sources_in_the_system_turn_first() -> None:
    context = CheckContext(prompt="Why?", system="Sources: rain.", known_text="Hello.\nWhy?")
    assert premise_of(context) == "Sources: rain.\nHello.\nWhy?"
    assert premise_of(CheckContext(prompt="Why?")) == "Why?"
