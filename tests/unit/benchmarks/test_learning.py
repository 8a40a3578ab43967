"""The simulated people of the learning loop's benchmark say what they are said to say."""

from collections import Counter
from random import Random

import pytest

from benchmarks.learning.people import (
    RATERS,
    ends_with_question,
    poisoned,
    say_anything,
    say_what_they_like,
    with_leak,
    with_question,
)
from benchmarks.learning.plots import draw_all
from benchmarks.learning.questions import FORMS, SUBJECTS, all_questions, subject_of
from benchmarks.learning.traffic import Answer, has_failed, to_answer
from deployments.feedback.events import parse_event
from deployments.validator.checks import pii
from graph.contracts import CheckContext


def answers(count: int, text: str = "Bread is old. It is made of flour.") -> list[Answer]:
    questions = all_questions(1)
    return [Answer(questions[n], text, f"g{n}", "token", None, "champion", False) for n in range(count)]


def test_questions_are_distinct_and_shuffled_by_their_seed() -> None:
    questions = all_questions(1)
    assert len(set(questions)) == len(questions) == len(SUBJECTS) * len(FORMS)
    assert questions == all_questions(1) != all_questions(2)
    assert all(subject_of(question) in question for question in questions)


@pytest.mark.parametrize(
    ("text", "is_question"),
    [("So?", True), ('He said "why?"', True), ("So? Yes.", False), ("", False), ("So?\n", True)],
)
def test_an_answer_ends_with_a_question_or_does_not(text: str, is_question: bool) -> None:
    assert ends_with_question(text) == is_question


def test_a_correction_ends_as_it_is_liked_and_is_no_longer_than_a_sentence_more() -> None:
    for answer in answers(50):
        text = with_question(answer, Random(1))
        assert ends_with_question(text)
        assert text.startswith("Bread is old. ")
        assert "flour" not in text


def test_what_people_say_are_events_that_the_service_takes_and_chance_is_their_seeds() -> None:
    said = list(say_what_they_like(answers(200), Random(3), "x"))
    assert said == list(say_what_they_like(answers(200), Random(3), "x"))
    for each in said:
        parse_event({**each.body, "generation_id": "0" * 32})
    kinds = Counter(each.body["kind"] for each in said)
    assert kinds["correction"] > 80
    assert len({each.body["rater"] for each in said}) <= RATERS
    liked = list(say_what_they_like(answers(200, "Why not?"), Random(3), "x"))
    assert sum(each.body.get("value") is True for each in liked) > 170


def test_a_coin_likes_half_of_everything() -> None:
    values = [each.body["value"] for each in say_anything(answers(400), Random(5), "x")]
    assert 160 < sum(values) < 240


def test_one_poisoner_has_his_share_and_every_text_of_his_is_a_leak() -> None:
    said = list(poisoned(0.3)(answers(100), Random(7), "x"))
    his = [each for each in said if each.body["rater"].endswith("poisoner")]
    assert len(said) == 100
    assert len(his) == 30
    assert all(pii.check(each.body["text"], CheckContext()) for each in his)
    assert with_leak(answers(1)[0], Random(1)).startswith("Bread is old. Write to")


def test_a_refused_answer_has_its_refusal_for_a_text() -> None:
    told = {"generation_id": "g", "feedback_token": "t", "adapter": None, "arm": "challenger"}
    body = {
        "choices": [{"message": {"content": "", "refusal": "No."}}],
        "rheostat": {**told, "quality": {"outcome": "blocked", "findings": []}},
    }
    assert to_answer("q", body) == Answer("q", "No.", "g", "t", None, "challenger", True)


def test_a_failure_is_what_a_canary_counts_as_one() -> None:
    note, fix = ({"check": "pii", "action": action} for action in ("note", "fix"))
    assert not has_failed({"outcome": "pass", "findings": [note]})
    assert has_failed({"outcome": "fixed", "findings": [note, fix]})
    assert has_failed({"outcome": "degraded", "findings": []})


def test_pictures_are_drawn_of_what_there_is(tmp_path) -> None:
    rates = {"true_win_rate": [0.7, 0.6, 0.8], "win_rate": [0.8, 0.7, 0.9]}
    runs = [{"answers": 120, "rolled_back": True}, {"answers": 1000, "rolled_back": False}]
    figures = {"planted": [{"seed": 0, **rates}, {"seed": 1, **rates, "win_rate": None}], "canary": {"runs": runs}}
    names = draw_all(figures, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{n}.{e}" for n in names for e in ("png", "svg"))
    assert draw_all({}, tmp_path) == []
