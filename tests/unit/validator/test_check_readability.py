"""The readability check: the reading level that the controls promised, and how near an answer comes to it."""

from dataclasses import replace
from itertools import pairwise

import pytest

from deployments.controls.yardsticks import MEASURED_BY, cefr_level
from deployments.validator.checks import readability
from deployments.validator.policy import QualityPolicy, judge, parse_policy
from deployments.validator.thresholds import Thresholds
from graph.contracts import CheckContext

EASY = (
    "Rain comes from the sea. The sun makes the water warm, and some of it goes up into the air. Up there it is cold. "
    "The water makes clouds, and when they are full, the water falls down again on the hills and on us."
)
HARD = (
    "Precipitation originates from evaporation over the ocean. Solar radiation drives moisture into the atmosphere, where "
    "decreasing temperature produces condensation. Accumulating droplets eventually exceed the capacity of ascending "
    "currents, and gravity subsequently initiates precipitation across elevated terrain, particularly along exposed "
    "coastal mountains."
)
GERMAN = (
    "Der Regen kommt aus dem Meer. Die Sonne macht das Wasser warm, und etwas davon steigt auf in die Luft. Dort oben "
    "ist es kalt. Das Wasser wird zu Wolken, und wenn sie voll sind, fällt es wieder herab auf die Berge und auf uns."
)
FOR_CHILDREN = CheckContext(reading_level=(1.3, 1.6))
FOR_EXPERTS = CheckContext(reading_level=(2.2, 2.9))


def test_an_answer_far_from_the_promised_level_is_noted_either_way() -> None:
    (finding,) = readability.check(HARD, FOR_CHILDREN)
    assert finding.severity == "note"
    assert finding.message == "the words have a mean CEFR level of 3.1 where the controls promised 1.3 to 1.6"
    assert readability.check(EASY, FOR_EXPERTS) != ()


def test_an_answer_at_its_level_or_a_little_beside_it_passes() -> None:
    level = cefr_level(EASY)
    assert level is not None
    for beside in (-0.4, -0.1, 0.0, 0.1, 0.4):
        low = level + beside if beside > 0 else level + beside - 0.1
        assert readability.check(EASY, CheckContext(reading_level=(low, low + 0.1))) == ()


NOT_JUDGED = {
    "nothing promised": (HARD, CheckContext()),
    "json": (HARD, replace(FOR_CHILDREN, answer_format="json")),
    "schema": (HARD, replace(FOR_CHILDREN, json_schema={})),
    "a few words": ("Precipitation originates from evaporation.", FOR_CHILDREN),
    "another language": (GERMAN, FOR_EXPERTS),
    "code": (
        f"```\n{HARD}\n```\nEvaporation and condensation precipitate accumulating atmospheric moisture.",
        FOR_CHILDREN,
    ),
    "nothing": ("", FOR_CHILDREN),
}


@pytest.mark.parametrize("name", NOT_JUDGED)
def test_what_has_no_promise_or_cannot_be_measured_is_neither_noted_nor_graded(name: str) -> None:
    text, context = NOT_JUDGED[name]
    assert readability.check(text, context) == ()
    assert readability.grade(text, context) is None
    assert judge(text, context, QualityPolicy()).scores["control_fit"] == 1.0


def test_the_grade_falls_with_the_distance_on_either_side() -> None:
    level = cefr_level(EASY)
    assert level is not None
    for sign in (1, -1):
        ranges = [sorted((level + sign * beside, level + sign * (beside + 0.2))) for beside in (-0.1, 0.1, 0.4, 0.6, 3)]
        grades = [readability.grade(EASY, CheckContext(reading_level=(low, high))) for low, high in ranges]
        assert grades[0] == 1.0
        assert all(a is not None and b is not None and a > b for a, b in pairwise(grades))
        assert grades[-1] == 0.0


def test_the_grade_lowers_control_fit_and_nothing_is_written_again() -> None:
    good, bad = (judge(text, FOR_CHILDREN, QualityPolicy()) for text in (EASY, HARD))
    assert (good.score, good.findings) == (1.0, ())
    assert (bad.action, [finding.action for finding in bad.findings]) == ("deliver", ["note"])
    assert bad.scores["control_fit"] == readability.grade(HARD, FOR_CHILDREN) == 0.0
    assert bad.score == pytest.approx(0.9)


def test_the_thresholds_decide() -> None:
    assert readability.check(HARD, FOR_CHILDREN, Thresholds(reading_level_distance=3.0)) == ()
    assert readability.check(HARD, FOR_CHILDREN, Thresholds(reading_level_min_words=60)) == ()


def test_a_disabled_check_grades_nothing() -> None:
    policy = parse_policy({"checks": {"readability": {"enabled": False}}}, "test")
    assert judge(HARD, FOR_CHILDREN, policy).score == 1.0


def test_it_measures_by_the_yardstick_of_the_dial_whose_range_it_is_told() -> None:
    assert MEASURED_BY["technicality"] == "cefr"
