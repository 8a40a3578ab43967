"""What sliders compile into for the engine's logits, and where the levers stay off."""

from pathlib import Path

import pytest
from control_builders import CATALOGUE, CATALOGUE_FILE, make_compiled
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.controls.catalogue import load_catalogue
from deployments.controls.compiler import END_SHARE, CallerSampling
from deployments.controls.prompt_language import is_english
from graph.contracts import LogitsPlan, Message

GERMAN = (Message("user", "Warum ist der Himmel an klaren Tagen blau und abends rot?"),)


def plan_of(lp: dict[str, int], **given: object) -> LogitsPlan:
    logits = make_compiled(lp, **given).logits  # type: ignore[arg-type]
    assert logits is not None
    return logits


def test_an_untouched_request_uses_no_lever() -> None:
    compiled = make_compiled()
    assert compiled.logits is None
    assert not compiled.expand_contractions


def test_depth_aims_at_its_words_in_tokens() -> None:
    length = CATALOGUE.lp["depth"].length
    assert length is not None
    plan = plan_of({"depth": 50})
    assert plan.target_tokens == round(150 * length.tokens_per_word)
    assert plan.connect


def test_a_length_that_is_not_shaped_keeps_its_limits_and_leaves_the_end_to_the_model(tmp_path: Path) -> None:
    text, key = CATALOGUE_FILE.read_text(encoding="utf-8"), "tokens_per_word: "
    assert text.count(key) == 1
    path = tmp_path / "controls.yaml"
    path.write_text(text.replace(key, f"shaped: false, {key}"), encoding="utf-8")
    unshaped, shaped = make_compiled({"depth": 50}, catalogue=load_catalogue(path)), make_compiled({"depth": 50})
    assert unshaped.logits is None
    assert unshaped.sampling == shaped.sampling
    assert unshaped.target_words == shaped.target_words == 150


def test_an_answer_aims_to_end_within_the_callers_limit() -> None:
    assert plan_of({"depth": 100}, asked=CallerSampling(max_tokens=100)).target_tokens == round(END_SHARE * 100)
    assert plan_of({"depth": 0}, asked=CallerSampling(min_tokens=300)).target_tokens == 300


def test_a_caller_who_ignores_the_end_gets_none() -> None:
    assert make_compiled({"depth": 50}, asked=CallerSampling(ignore_eos=True)).logits is None


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=99))
def test_levers_move_with_the_level_and_without_a_jump_below_the_ban(level: int) -> None:
    here, above = (plan_of({"technicality": at, "formality": at, "depth": at}) for at in (level, level + 1))
    assert 0 <= above.rarity - here.rarity < 0.1
    assert here.stops >= above.stops
    assert here.casual >= above.casual
    assert (here.target_tokens or 0) <= (above.target_tokens or 0)


def test_the_words_of_the_users_own_prompt_are_spared_and_not_the_directives() -> None:
    plan = plan_of({"technicality": 0})
    assert plan.spared_text == "Tell me more. "
    assert plan_of({"depth": 0}).spared_text == ""


def test_casual_words_are_banned_from_80_on_and_contractions_written_out() -> None:
    assert plan_of({"formality": 79}).casual > -10 > plan_of({"formality": 80}).casual
    assert make_compiled({"formality": 80}).expand_contractions
    assert not make_compiled({"formality": 79}).expand_contractions


def test_the_vocabulary_of_another_language_is_left_alone() -> None:
    lp = {"technicality": 0, "formality": 100}
    assert make_compiled(lp, ls={"language": "de"}).logits is None
    assert make_compiled(lp, messages=GERMAN).logits is None
    assert make_compiled(lp, messages=GERMAN, ls={"language": "en"}).logits is not None
    german = plan_of({**lp, "depth": 50}, messages=GERMAN)
    assert german.target_tokens
    assert not german.connect


def test_the_words_of_json_are_data_and_are_left_alone() -> None:
    lp = {"technicality": 0, "formality": 100, "depth": 50}
    compiled = make_compiled(lp, ls={"format": "json"})
    assert compiled.logits is None
    assert not compiled.expand_contractions


def test_where_a_grammar_closes_the_answer_it_decides_its_length_and_its_stops() -> None:
    plan = plan_of({"technicality": 0, "depth": 50}, ls={"format": "steps"})
    assert plan.target_tokens is None
    assert plan.stops == 0.0
    assert plan.rarity < 0


@pytest.mark.parametrize(
    ("language", "prompt", "expected"),
    [
        ("auto", "Hi", True),
        ("auto", "42?", True),
        ("auto", "", True),
        ("auto", "Why is the sky blue?", True),
        ("auto", GERMAN[0].content, False),
        ("auto", "なぜ空は青いのですか？", False),
        ("en", GERMAN[0].content, True),
        ("fr", "Why is the sky blue?", False),
        ("auto", "broken \ud800 surrogate", True),
    ],
)
def test_english_is_what_was_asked_for_else_what_the_prompt_is_written_in(
    language: str, prompt: str, expected: bool
) -> None:
    assert is_english(language, prompt) is expected
