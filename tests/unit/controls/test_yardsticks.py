"""What the yardsticks read off a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.controls.yardsticks import (
    MAX_STYLE_CHARS,
    MEASURED_BY,
    YARDSTICKS,
    casual_per_100_words,
    cefr_level,
    count_words,
    flesch_kincaid_grade,
    warm_up,
)

CHILD = (
    "Plants are green living things. They eat light from the sun. The light helps them make food. They drink water "
    "from the ground. The leaves are like little kitchens."
)
SCHOOL = (
    "Plants make their own food in a process called photosynthesis. They take in sunlight with their leaves and use "
    "its energy to turn water and a gas from the air, carbon dioxide, into sugar."
)
STUDENT = (
    "Photosynthesis converts light energy into chemical energy. Pigments in the chloroplasts absorb light and drive "
    "reactions that split water, release oxygen and produce energy carriers, which are then used to assemble "
    "carbohydrates."
)
EXPERT = (
    "Photoexcitation of the reaction centre initiates charge separation; the resultant transmembrane proton gradient "
    "drives phosphorylation, whereas photorespiratory flux through oxygenation constrains quantum efficiency."
)
RISING = (CHILD, SCHOOL, STUDENT, EXPERT)


@pytest.mark.parametrize("yardstick", [cefr_level, flesch_kincaid_grade])
def test_texts_for_a_child_a_pupil_a_student_and_an_expert_come_in_that_order(yardstick: object) -> None:
    values = [yardstick(text) for text in RISING]  # type: ignore[operator]
    assert values == sorted(values)
    assert len(set(values)) == 4


def test_a_level_is_the_mean_over_the_known_words() -> None:
    # dog, photosynthesis: A1 and C2; the last word is in no list.
    assert cefr_level("dog dog dog photosynthesis photosynthesis xqzzk") == pytest.approx((3 * 1 + 2 * 6) / 5)
    assert cefr_level("The dog's dogs dog.") is None
    assert cefr_level("dog's dog’s dog dog dog") == 1.0


def test_a_grade_is_that_of_the_published_formula() -> None:
    # 10 words in 2 sentences, 10 syllables.
    text = "The cat sat on it. The dog ran to me."
    assert flesch_kincaid_grade(text) == pytest.approx(0.39 * 5 + 11.8 * 1 - 15.59)
    # 6 words, 1 sentence, 5 + 3 syllables.
    assert flesch_kincaid_grade("The cat sat on the sandwiches.") == pytest.approx(0.39 * 6 + 11.8 * 8 / 6 - 15.59)


def test_each_item_of_a_list_is_a_sentence() -> None:
    as_list, as_lines = "- one two three\n- four five six", "one two three. Four five six."
    assert flesch_kincaid_grade(as_list) == pytest.approx(flesch_kincaid_grade(as_lines))


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("I can't say that it isn't so.", 2),
        ("I can’t say that it isn’t so.", 2),
        ("It's what's there, and here's more of that.", 3),
        ("The dog's bone and the company's plan are here.", 0),
        ("They've said we'd go and you'll see I'm right.", 4),
        ("Let's get 'em, 'cause it is good.", 3),
        ("Hey, that is awesome stuff, yeah, and gonna last.", 5),
        ("HEY, THAT IS ALL OF IT.", 1),
        ("They pause at six o'clock and stay until seven.", 0),
        ("What a day! And what a night!!! See here.", 2),
        ("See ![a cat](cat.png) and x != y in that.", 0),
        ("Heyday and wowed are words of their own here.", 0),
    ],
)
def test_casual_marks_are_counted_and_possessives_are_not(text: str, marks: int) -> None:
    assert casual_per_100_words(text) == pytest.approx(100 * marks / count_words(text))


@pytest.mark.parametrize("code", ["`hey! don't`", "``hey ` wow!``", "\n```py\nhey! wow\n```\n", "\n~~~\nwow!\n~~~\n"])
def test_code_has_no_style(code: str) -> None:
    text = f"Plants are green living things. {code} They eat light from the sun."
    plain = "Plants are green living things.   They eat light from the sun."
    assert casual_per_100_words(text) == 0
    assert cefr_level(text) == cefr_level(plain)
    assert flesch_kincaid_grade(text) == pytest.approx(flesch_kincaid_grade(plain))


def test_code_that_is_never_closed_has_no_style_either() -> None:
    assert casual_per_100_words("All of this is plain prose.\n```\nhey! don't") == 0


@pytest.mark.parametrize("text", ["", "Yes.", "Hey! No!", "1 2 3", "```\nlong enough to be read, but code\n```"])
def test_a_text_too_short_for_a_style_has_none(text: str) -> None:
    assert cefr_level(text) is None
    assert flesch_kincaid_grade(text) is None
    assert casual_per_100_words(text) is None


def test_words_are_counted_in_any_script_and_to_the_end() -> None:
    assert count_words("植物は緑") == 4
    assert count_words("word " * MAX_STYLE_CHARS) == MAX_STYLE_CHARS


def test_the_style_of_a_huge_text_is_that_of_its_beginning() -> None:
    assert cefr_level(f"{CHILD} " * 2000) == pytest.approx(cefr_level(CHILD), abs=0.01)
    assert cefr_level("a" * 1_000_000) is None


@given(st.text(alphabet=st.sampled_from("ab`~\n'’! -dogt.s")) | st.text())
def test_every_text_can_be_measured(text: str) -> None:
    for yardstick in YARDSTICKS.values():
        value = yardstick.function(text)
        assert value is None or value == yardstick.function(text)


def test_every_measured_slider_has_a_yardstick_and_style_is_read_in_english_only() -> None:
    assert set(MEASURED_BY.values()) <= set(YARDSTICKS)
    assert [name for name, each in YARDSTICKS.items() if each.languages is None] == ["words"]
    assert all(name == each.name for name, each in YARDSTICKS.items())
    warm_up()
