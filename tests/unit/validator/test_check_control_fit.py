"""The control-fit check: the promised length, and how near an answer comes to it."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from deployments.validator.checks import control_fit
from deployments.validator.policy import QualityPolicy, judge, parse_policy
from deployments.validator.thresholds import Thresholds
from graph.contracts import CheckContext

PROMISED = CheckContext(target_words=100)


def write(words: int) -> str:
    return " ".join(f"word{at}" for at in range(words)) + "."


@pytest.mark.parametrize("words", [1, 49, 201, 1000])
def test_an_answer_far_from_its_promised_length_is_found(words: int) -> None:
    (finding,) = control_fit.check(write(words), PROMISED)
    assert (finding.severity, finding.message) == ("soft", f"{words} words where the controls promised about 100")


@pytest.mark.parametrize("words", [50, 99, 100, 150, 200])
def test_an_answer_near_it_passes(words: int) -> None:
    assert control_fit.check(write(words), PROMISED) == ()


def test_an_empty_answer_is_left_to_the_other_check() -> None:
    assert control_fit.check("...", PROMISED) == ()
    assert control_fit.grade("...", PROMISED) == 0.0


NOTHING_PROMISED = {
    "no target": CheckContext(),
    "target of nothing": CheckContext(target_words=0),
    "limit of the caller": replace(PROMISED, caller_limited=True),
    "json": replace(PROMISED, answer_format="json"),
    "schema": replace(PROMISED, json_schema={}),
}


@pytest.mark.parametrize("name", NOTHING_PROMISED)
def test_without_a_promise_nothing_is_found_or_graded(name: str) -> None:
    assert control_fit.check(write(5), NOTHING_PROMISED[name]) == ()
    assert control_fit.grade(write(5), NOTHING_PROMISED[name]) is None
    assert judge(write(5), NOTHING_PROMISED[name], QualityPolicy()).scores["control_fit"] == 1.0


def test_an_answer_that_was_cut_is_graded_and_not_found() -> None:
    cut = replace(PROMISED, finish_reason="length")
    assert control_fit.check(write(5), cut) == ()
    assert control_fit.grade(write(80), cut) == pytest.approx(1 + math.log(0.8))


def test_the_grade_falls_with_the_distance_on_either_side() -> None:
    grades = [control_fit.grade(write(words), PROMISED) for words in (100, 110, 150, 200, 272, 1000)]
    assert grades[0] == 1.0
    assert all(a is not None and b is not None and a > b for a, b in pairwise(grades[:-1]))
    assert grades[-1] == 0.0
    assert control_fit.grade(write(50), PROMISED) == pytest.approx(control_fit.grade(write(200), PROMISED))


def test_the_sub_score_is_the_grade_whether_something_was_found_or_not() -> None:
    for words in (40, 60, 100, 180):
        verdict = judge(write(words), PROMISED, QualityPolicy())
        assert verdict.action == "deliver"
        assert verdict.scores["control_fit"] == control_fit.grade(write(words), PROMISED)
        assert bool(verdict.findings) == (words == 40)
        assert verdict.score == pytest.approx(0.9 + 0.1 * verdict.scores["control_fit"])


def test_a_disabled_check_grades_nothing() -> None:
    policy = parse_policy({"checks": {"control_fit": {"enabled": False}}}, "test")
    assert judge(write(10), PROMISED, policy).scores["control_fit"] == 1.0


def test_the_threshold_decides() -> None:
    assert control_fit.check(write(60), PROMISED, Thresholds(control_fit_ratio=1.5)) != ()
