"""The relevance check: what the pool measured, and when that says something."""

import time
from dataclasses import replace
from itertools import pairwise

import pytest

from deployments.validator.checks import relevance
from deployments.validator.grades import SOFT
from deployments.validator.relevance_model import should_measure
from deployments.validator.thresholds import Thresholds
from graph.contracts import CheckContext

TEXT = "The match ended two to one after a late goal, and the home side keeps its place in the league."
OFF_TOPIC = CheckContext(prompt="How do I repot a cactus?", relevance=0.03)


@pytest.mark.parametrize("cosine", [-0.1, 0.0, 0.199, 0.229])
def test_an_answer_about_something_else_is_found(cosine: float) -> None:
    (finding,) = relevance.check(TEXT, replace(OFF_TOPIC, relevance=cosine))
    assert finding.severity == "soft"
    assert f"{cosine:.2f}" in finding.message


@pytest.mark.parametrize("cosine", [None, 0.23, 0.9])
def test_an_answer_that_is_near_or_was_not_measured_passes(cosine: float | None) -> None:
    assert relevance.check(TEXT, replace(OFF_TOPIC, relevance=cosine)) == ()


def test_short_answers_and_json_pass() -> None:
    assert relevance.check("On Tuesday, at nine in the morning.", OFF_TOPIC) == ()
    assert relevance.check(TEXT, replace(OFF_TOPIC, answer_format="json")) == ()
    assert relevance.check(TEXT, replace(OFF_TOPIC, json_schema={})) == ()


def test_the_thresholds_decide() -> None:
    assert relevance.check(TEXT, OFF_TOPIC, Thresholds(relevance=0.0)) == ()
    assert relevance.check(TEXT, OFF_TOPIC, Thresholds(relevance_min_words=40)) == ()


ORCHARD = "The orchard was planted with cherry trees, and the harvest ended before the late frost came down the hill."
SHARED = {
    "nothing": ("Who scored for Valencia?", 0.23),
    "only common words": ("How many people came down late?", 0.23),
    "a word": ("Does the orchard need bees?", 0.20),
    "a word in another form": ("Are orchards expensive?", 0.20),
    "several words": ("When is the cherry harvest?", 0.10),
}
"""By what of the question stands in ORCHARD: the question, and the cosine from which on ORCHARD passes."""


@pytest.mark.parametrize(("question", "limit"), SHARED.values(), ids=SHARED)
def test_the_more_words_an_answer_shares_with_its_question_the_further_from_it_it_may_be(
    question: str, limit: float
) -> None:
    context = CheckContext(prompt=question)
    (finding,) = relevance.check(ORCHARD, replace(context, relevance=limit - 0.002))
    assert f"at least {limit:.2f}" in finding.message
    assert relevance.check(ORCHARD, replace(context, relevance=limit + 0.001)) == ()


@pytest.mark.parametrize("question", ["What happened to Ødegaard?", "What happened in 1874?", "ødegaard's transfer?"])
def test_names_and_numbers_are_shared_words_too(question: str) -> None:
    text = "ØDEGAARD came in the summer, and not since 1874 had the club paid as much for anybody."
    assert relevance.check(text, CheckContext(prompt=question, relevance=0.21)) == ()


DRILL = "I cook every day. She cooks every day. I swim every day. He swims every day. We run, and it runs too."
ASKED_FOR_FORM = [
    "A drill for the third person, please: ten items",
    "two tongue twisters, each one three times",
    "write a whatsapp conversation between two raccoons",
    "acrostic with OTTER",
    "Can you make me a short, funny limerick about a geologist?",
    "I'd like slogans against closing our pool",
    "Hi, I need ideas for names for a bookshop",
    "We retire our keeper in May. Write the end of a speech for him.",
    "Rephrase more politely: you sent the wrong invoice",
    "Please continue: On the first night of the tenth year",
    "Do you know any jokes about cats?",
]
NOT_ASKED_FOR_FORM = [
    "How do I write a good speech?",
    "why do poems rhyme",
    "What makes a joke funny?",
    "Can poems be funny?",
    "Speeches are always dull to me. Why?",
    "I was given a book about riddles, is it rare?",
    "My song was stolen. Can I sue?",
    "Can you explain pentameters?",
    "Who wrote the lyrics of Yesterday?",
]


@pytest.mark.parametrize("prompt", ASKED_FOR_FORM)
def test_a_form_of_text_that_was_asked_for_may_leave_its_subject_unnamed(prompt: str) -> None:
    assert relevance.check(DRILL, CheckContext(prompt=prompt, relevance=0.101)) == ()
    assert relevance.check(DRILL, CheckContext(prompt=prompt, relevance=0.098))


@pytest.mark.parametrize("prompt", NOT_ASKED_FOR_FORM)
def test_a_question_that_only_speaks_of_such_a_form_is_one_like_any_other(prompt: str) -> None:
    (finding,) = relevance.check(DRILL, CheckContext(prompt=prompt, relevance=0.199))
    assert "at least 0.23" in finding.message


@pytest.mark.parametrize(
    "prompt", ["A short story about a lighthouse", "Write a letter to my landlord.", "email to a venue manager"]
)
def test_a_story_or_a_letter_that_was_asked_for_must_be_nearer_than_a_form_and_may_be_further_than_others(
    prompt: str,
) -> None:
    assert relevance.check(DRILL, CheckContext(prompt=prompt, relevance=0.201)) == ()
    assert relevance.check(DRILL, CheckContext(prompt=prompt, relevance=0.198))


DEFINITION = "It's the knowledge that things go on when you can't see them. Hide a toy, and she acts as if it had gone."


def test_an_answer_that_refers_back_to_what_it_was_asked_to_define_may_leave_it_unnamed() -> None:
    context = CheckContext(prompt="What is object permanence?")
    assert relevance.check(DEFINITION, replace(context, relevance=0.101)) == ()
    assert relevance.check(DEFINITION, replace(context, relevance=0.098))


def test_neither_one_that_refers_to_nothing_nor_one_to_another_kind_of_question_may() -> None:
    assert relevance.check(TEXT, CheckContext(prompt="What is object permanence?", relevance=0.199))
    assert relevance.check(DEFINITION, CheckContext(prompt="How do I repot a cactus?", relevance=0.199))


@pytest.mark.parametrize("unit", ["for ", "a ", "the end of ", ". ", ".\u200b", "what is ", "I want ", "it"])
def test_a_long_prompt_takes_well_below_a_second(unit: str) -> None:
    context = CheckContext(prompt=unit * (1_000_000 // len(unit)), relevance=0.05)
    start = time.perf_counter()
    relevance.check(DRILL, context)
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize("question", [question for question, _ in SHARED.values()])
def test_a_grade_never_rises_when_the_cosine_falls_and_tells_a_finding_from_none(question: str) -> None:
    contexts = [CheckContext(prompt=question, relevance=step / 100) for step in range(50, -11, -1)]
    grades = [relevance.grade(ORCHARD, context) for context in contexts]
    assert all(a is not None and b is not None and a >= b for a, b in pairwise(grades))
    for context, grade in zip(contexts, grades, strict=True):
        assert grade is not None
        assert grade <= SOFT if relevance.check(ORCHARD, context) else grade >= SOFT


@pytest.mark.parametrize("prompt", ["How do I read my payslip?", "How do I repot a bonsai?", "Who won the match?"])
def test_a_short_english_question_is_measured_though_the_detector_guesses(prompt: str) -> None:
    assert should_measure(TEXT, CheckContext(prompt=prompt))


def test_a_question_or_an_answer_in_another_language_is_not_measured() -> None:
    german = "Das Spiel endete zwei zu eins, und die Mannschaft bleibt auf ihrem Platz in der Liga."
    assert not should_measure(TEXT, CheckContext(prompt="Wie ist das Spiel gestern ausgegangen?"))
    assert not should_measure(german, CheckContext(prompt="Who won the match?"))


UNMEASURED = {
    "names two of the question's words": ("When is the cherry harvest?", ORCHARD),
    "is short": ("How do I repot a cactus?", "On Tuesday, at nine in the morning."),
}
"""By why the model is not asked: the question and the answer."""


@pytest.mark.parametrize(("question", "answer"), UNMEASURED.values(), ids=UNMEASURED)
def test_an_answer_that_needs_no_cosine_is_not_measured(question: str, answer: str) -> None:
    assert not relevance.needs_cosine(answer, CheckContext(prompt=question))
    assert not should_measure(answer, CheckContext(prompt=question))


def test_two_words_of_a_question_with_many_do_not_say_that_an_answer_is_about_it() -> None:
    about = "glaciers, volcanoes, lighthouses, violins, sourdough, chess, falconry"
    context = CheckContext(prompt=f"When is the cherry harvest, and what else is in your books on {about}?")
    assert should_measure(ORCHARD, context)


@pytest.mark.parametrize("unit", ["word ", "x", "\u200b\u202e", "\ud83d", "poem\n", "漢"])
def test_a_megabyte_takes_well_below_a_second(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    context = CheckContext(prompt=text, relevance=0.05)
    start = time.perf_counter()
    relevance.check(text, context)
    relevance.grade(text, context)
    assert time.perf_counter() - start < 0.5
