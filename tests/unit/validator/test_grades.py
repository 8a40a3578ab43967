"""Grades: of two texts that both pass, the better one has the higher score."""

from dataclasses import replace
from itertools import pairwise

import pytest

from deployments.validator.checks import CHECKS, language, nonwords, relevance, repetition
from deployments.validator.grades import SOFT, grade_between
from deployments.validator.policy import QualityPolicy, judge
from deployments.validator.thresholds import DEFAULTS, Thresholds
from graph.contracts import CheckContext

QUESTION = CheckContext(prompt="Please explain to me in detail how the rain is made.")
RAIN = (
    "Rain falls when warm air rises from the sea and cools. Clouds form out of tiny drops, and the wind moves them over "
    "the land. When the drops join others they grow, and at last they are too heavy to float. Mountains make the air "
    "rise faster, so most of the water falls on the side that faces the sea. The rest of the country stays dry, which "
    "is why deserts often lie behind high ranges. Rivers bring the water back, and the whole journey begins anew."
)
AGAIN = RAIN + " So most of the water falls on the side that faces the sea, as has been said before in this answer."
GERMAN_HEADING = "Wie der warme Wind die schweren Wolken weit über das Land und in die Berge trägt"
SLIPS = RAIN.replace("tiny", "tinyish").replace("heavy", "heavily-ish").replace("float", "floatle")
SALTED = RAIN.replace("tiny", "tinlish").replace("heavy", "heavlier").replace("float", "floatle").replace(
    "faster", "fastlier"
)  # fmt: skip

PAIRS: dict[str, tuple[tuple[str, CheckContext], tuple[str, CheckContext]]] = {
    "relevance": ((RAIN, replace(QUESTION, relevance=0.6)), (RAIN, replace(QUESTION, relevance=0.3))),
    "repetition": ((RAIN, QUESTION), (AGAIN, QUESTION)),
    "language": ((RAIN, QUESTION), (f"{GERMAN_HEADING}\n\n{RAIN}", QUESTION)),
    "nonwords": ((RAIN, QUESTION), (SALTED, QUESTION)),
    "control_fit": ((RAIN, replace(QUESTION, target_words=90)), (RAIN, replace(QUESTION, target_words=140))),
    "readability": ((RAIN, replace(QUESTION, reading_level=(1.4, 1.9))), (RAIN, replace(QUESTION, reading_level=(1.8, 2.1)))),
}  # fmt: skip
"""By the check that grades them, a good text and one that is worse and passes, too."""


def test_every_check_that_grades_has_a_pair() -> None:
    assert set(PAIRS) == {name for name, check in CHECKS.items() if check.grade}


@pytest.mark.parametrize("name", PAIRS)
def test_of_two_texts_that_pass_the_better_has_the_higher_score(name: str) -> None:
    better, worse = (judge(text, context, QualityPolicy()) for text, context in PAIRS[name])
    assert (better.findings, worse.findings) == ((), ())
    assert better.score > worse.score > 0.8


@pytest.mark.parametrize("name", PAIRS)
def test_the_worse_one_loses_by_the_grade_of_that_check_alone(name: str) -> None:
    text, context = PAIRS[name][1]
    grades = {other: check.grade(text, context, DEFAULTS) for other, check in CHECKS.items() if check.grade}
    assert [other for other, grade in grades.items() if grade is not None and grade < 0.9] == [name]


def test_a_grade_is_one_for_good_values_and_makes_no_step_where_the_finding_begins() -> None:
    assert [grade_between(value, 0.45, 0.2) for value in (1.0, 0.45)] == [1.0, 1.0]
    assert grade_between(0.2, 0.45, 0.2) == pytest.approx(SOFT)
    assert [grade_between(value, 0.0, 0.1) for value in (-1.0, 0.0, 1.0)] == [1.0, 1.0, 0.0]
    values = [grade_between(at / 100, 0.0, 0.5) for at in range(0, 80, 5)]
    assert all(a > b for a, b in pairwise(values))


def test_beside_a_finding_a_grade_counts_for_no_more_than_a_finding_leaves() -> None:
    # One sentence of ten: too much by itself, and a small share.
    text = RAIN + " Der warme Wind trägt die Wolken weit über das Land."
    graded = language.grade(text, QUESTION)
    assert graded is not None
    assert graded > SOFT
    verdict = judge(text, QUESTION, QualityPolicy())
    assert [finding.check for finding in verdict.findings] == ["language"]
    assert verdict.scores["language"] == SOFT


def test_an_answer_far_beyond_the_limit_has_less_than_one_just_beyond_it() -> None:
    grades = [relevance.grade(RAIN, replace(QUESTION, relevance=cosine)) for cosine in (0.5, 0.3, 0.2, 0.1, -0.1)]
    assert all(a is not None and b is not None and a > b for a, b in pairwise(grades))
    assert grades[-1] == 0.0


NOT_GRADED = {
    "relevance not measured": relevance.grade(RAIN, QUESTION),
    "relevance of a few words": relevance.grade("On Tuesday, at nine.", replace(QUESTION, relevance=0.1)),
    "relevance of json": relevance.grade(RAIN, replace(QUESTION, relevance=0.1, answer_format="json")),
    "repetition that was asked for": repetition.grade(AGAIN, CheckContext(prompt="Repeat that again and again.")),
    "repetition under the caller's limit": repetition.grade(AGAIN, replace(QUESTION, caller_limited=True)),
    "repetition of a few words": repetition.grade("No, no, no.", QUESTION),
    "language of a translation": language.grade(
        f"{GERMAN_HEADING}\n\n{RAIN}", CheckContext(prompt="Translate this for me, please: " + RAIN)
    ),
    "language of json": language.grade(RAIN, replace(QUESTION, answer_format="json")),
    "language of nothing": language.grade("1, 2, 3", CheckContext()),
    "nonwords where german was asked for": nonwords.grade(SALTED, CheckContext(language="de")),
    "nonwords of a few words": nonwords.grade("Amberish goes the chimneyhood.", QUESTION),
    "nonwords of json": nonwords.grade(SALTED, replace(QUESTION, json_schema={})),
}


@pytest.mark.parametrize("name", NOT_GRADED)
def test_what_cannot_be_measured_or_was_asked_for_is_not_graded(name: str) -> None:
    assert NOT_GRADED[name] is None


def test_a_language_that_the_caller_names_costs_nothing() -> None:
    named = CheckContext(prompt="How is the rain made? Add the German title of a book about it.")
    assert language.grade(f"{GERMAN_HEADING}\n\n{RAIN}", named) == 1.0


def test_slips_of_the_pen_and_words_of_the_caller_cost_nothing() -> None:
    assert nonwords.grade(SLIPS, QUESTION) == 1.0
    assert nonwords.grade(SALTED, replace(QUESTION, known_text=SALTED)) == 1.0


def test_grades_go_by_the_thresholds() -> None:
    near = replace(QUESTION, relevance=0.5)
    assert relevance.grade(RAIN, near, Thresholds(relevance=0.5)) == pytest.approx(SOFT)
    for grade, text, milder in (
        (repetition.grade, AGAIN, Thresholds(duplicate_share=0.9)),
        (language.grade, PAIRS["language"][1][0], Thresholds(foreign_share=0.9)),
        (nonwords.grade, SALTED, Thresholds(nonword_share=0.9)),
    ):
        strict, mild = grade(text, QUESTION), grade(text, QUESTION, milder)
        assert strict is not None
        assert mild is not None
        assert mild > strict
