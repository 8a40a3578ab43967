"""What knobs compile into, and what they must leave alone."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytest
from control_builders import CATALOGUE, CONVERSATION, SOURCES, make_compiled
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.controls.compiler import CallerSampling, measure
from deployments.controls.knobs import interpolate
from deployments.controls.preview import preview
from graph.contracts import Message, Sampling
from graph.errors import InvalidRequest

CAPABLE = frozenset({"reasoning"})
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}

LEVELS = st.integers(min_value=0, max_value=100)
LPS = st.fixed_dictionaries({}, optional=dict.fromkeys(CATALOGUE.lp, LEVELS))
LSS = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from(list(switch.values)) for name, switch in CATALOGUE.ls.items() if name != "citations"
    },
)
MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), st.text(max_size=20)), max_size=5
).flatmap(
    lambda earlier: st.builds(
        lambda user, later: (*earlier, user, *later),
        st.builds(Message, st.just("user"), st.text(max_size=20)),
        st.lists(st.builds(Message, st.just("assistant"), st.text(max_size=20)), max_size=1),
    )
)


def changes(compiled: Any) -> dict[str, Any]:
    """What the engine, the model and the formatter are given: everything but the receipt."""
    given_to_them = {name: value for name, value in asdict(compiled).items() if name != "receipt"}
    return {"messages": given_to_them.pop("messages"), **given_to_them}


# Every knob does something


@pytest.mark.parametrize("name", list(CATALOGUE.lp))
def test_every_slider_changes_the_compiled_request(name: str) -> None:
    low, high = (changes(make_compiled({name: level})) for level in (0, 100))
    assert low != high
    assert high != changes(make_compiled())


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, switch in CATALOGUE.ls.items() for value in switch.values if value != switch.default],
)
def test_every_switch_position_changes_the_compiled_request(name: str, value: str) -> None:
    sources = SOURCES if name == "citations" else None
    turned = changes(make_compiled(ls={name: value}, sources=sources, capabilities=CAPABLE))
    assert turned != changes(make_compiled(capabilities=CAPABLE))


# Untouched


def test_an_untouched_request_reaches_the_model_as_it_was_sent() -> None:
    compiled = make_compiled()
    assert compiled.messages == CONVERSATION
    assert compiled.directive is None
    assert compiled.receipt["directive"] is None
    assert compiled.target_words is None
    assert compiled.grammar is None
    assert compiled.sampling.max_tokens is None


def creative_sampling(level: int) -> Sampling:
    """What the shipped curves of creativity say at a level, and nothing else."""
    curves = CATALOGUE.lp["creativity"].sampling.given
    return Sampling(**{name: round(interpolate(curve, level), 4) for name, curve in curves.items()})


def test_untouched_creativity_supplies_the_services_own_sampling() -> None:
    sampling = make_compiled().sampling
    assert sampling == creative_sampling(CATALOGUE.lp["creativity"].default)
    assert 0 < sampling.temperature < 1
    assert sampling.min_p > 0
    assert sampling.presence_penalty > 0
    assert sampling.repetition_penalty > 1
    assert sampling.top_p == 1.0


def test_a_neutral_slider_set_to_its_default_is_still_asked_for() -> None:
    compiled = make_compiled({"depth": 50})
    assert compiled.target_words == 150
    assert compiled.directive == "Answer in about 150 words."


# Directives


@settings(deadline=None)
@given(LPS, LSS, MESSAGES)
def test_nothing_before_the_end_of_the_last_user_turn_ever_changes(
    lp: dict[str, int], ls: dict[str, str], messages: tuple[Message, ...]
) -> None:
    compiled = make_compiled(lp, ls, messages=messages, capabilities=CAPABLE)
    last_user = max(at for at, message in enumerate(messages) if message.role == "user")
    assert compiled.messages[:last_user] == messages[:last_user]
    assert compiled.messages[last_user + 1 :] == messages[last_user + 1 :]
    before, after = messages[last_user], compiled.messages[last_user]
    assert after.role == "user"
    added = after.content.removeprefix(before.content)
    assert before.content + added == after.content
    assert added == (f"\n\n{compiled.directive}" if compiled.directive else "")


def test_a_directive_never_goes_into_a_system_turn() -> None:
    compiled = make_compiled({"depth": 90, "formality": 90}, {"format": "steps"})
    assert [m for m in compiled.messages if m.role == "system"] == [CONVERSATION[0]]


def test_a_conversation_without_a_user_turn_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_compiled(messages=(Message("system", "x"), Message("assistant", "y")))
    assert caught.value.param == "messages"


def test_the_language_is_asked_for_in_that_language_and_last() -> None:
    compiled = make_compiled({"formality": 90}, {"language": "fr", "hedging": "minimal"})
    assert compiled.directive is not None
    assert compiled.directive.endswith("Réponds en français.")
    assert compiled.language == "fr"
    assert make_compiled().language is None


def test_sources_stand_before_the_directive_and_the_receipt_repeats_only_their_ids() -> None:
    compiled = make_compiled(ls={"citations": "on"}, sources=SOURCES)
    assert compiled.messages[-1].content.startswith(
        "Tell me more. \n\nSources:\n[s1] The sky scatters blue light.\n[a.b-c] Water is wet.\n\nUse only"
    )
    assert "The ids are: s1, a.b-c." in compiled.receipt["directive"]
    assert "Water is wet" not in json.dumps(compiled.receipt)


def test_creativity_is_numbers_only_and_asks_nothing_of_the_model() -> None:
    for level in range(101):
        compiled = make_compiled({"creativity": level})
        assert compiled.directive is None
        assert compiled.messages == CONVERSATION
        assert compiled.logits is None


def test_technicality_speaks_to_five_audiences() -> None:
    assert len({make_compiled({"technicality": level}).directive for level in range(101)}) == 5


# Numbers


@settings(deadline=None)
@given(LPS, LSS)
def test_compiling_twice_gives_the_same(lp: dict[str, int], ls: dict[str, str]) -> None:
    first, second = (make_compiled(lp, ls, capabilities=CAPABLE) for _ in range(2))
    assert first == second
    assert json.dumps(first.receipt) == json.dumps(second.receipt)


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=99))
def test_a_deeper_level_always_asks_for_more_words_and_tokens(level: int) -> None:
    here, above = make_compiled({"depth": level}), make_compiled({"depth": level + 1})
    assert here.target_words is not None
    assert above.target_words is not None
    assert here.target_words < above.target_words <= here.target_words * 1.037 + 1
    assert here.sampling.min_tokens <= above.sampling.min_tokens
    assert (here.sampling.max_tokens or 0) < (above.sampling.max_tokens or 0)


@settings(deadline=None)
@given(st.integers(min_value=1, max_value=99))
def test_a_more_creative_level_is_never_colder_and_moves_without_a_jump(level: int) -> None:
    here, above = make_compiled({"creativity": level}).sampling, make_compiled({"creativity": level + 1}).sampling
    assert 0 <= above.temperature - here.temperature <= 0.0122
    assert 0 <= here.min_p - above.min_p <= 0.0011
    assert 0 <= above.presence_penalty - here.presence_penalty <= 0.0094


def test_creativity_at_its_ends_is_greedy_and_wild() -> None:
    greedy, wild = (make_compiled({"creativity": level}).sampling for level in (0, 100))
    assert (greedy, wild) == (creative_sampling(0), creative_sampling(100))
    assert (greedy.temperature, greedy.presence_penalty) == (0.0, 0.0)
    assert wild.temperature > make_compiled().sampling.temperature
    assert wild.presence_penalty > 0
    assert wild.min_p <= greedy.min_p


def test_token_limits_stand_around_the_target_length() -> None:
    length = CATALOGUE.lp["depth"].length
    assert length is not None
    sampling = make_compiled({"depth": 50}).sampling
    target_tokens = 150 * length.tokens_per_word
    assert sampling.min_tokens == int(0.6 * target_tokens)
    assert sampling.max_tokens == pytest.approx(1.6 * target_tokens + 32, abs=1)


@settings(deadline=None)
@given(LPS, LSS, st.integers(min_value=1, max_value=3000), st.none() | st.integers(min_value=1, max_value=3000))
def test_limits_that_knobs_set_fit_each_other_and_the_context(
    lp: dict[str, int], ls: dict[str, str], max_context: int, asked_max: int | None
) -> None:
    asked = CallerSampling(max_tokens=asked_max)
    sampling = make_compiled(lp, ls, asked=asked, max_context=max_context, capabilities=CAPABLE).sampling
    if sampling.max_tokens is not None:
        assert sampling.min_tokens <= sampling.max_tokens
        assert sampling.max_tokens == asked_max or 1 <= sampling.max_tokens <= max_context
    else:
        assert sampling.min_tokens == 0


# The caller's own parameters


def test_a_callers_parameter_wins_and_the_receipt_says_over_what() -> None:
    compiled = make_compiled({"creativity": 90}, asked=CallerSampling(temperature=0.1, top_k=5))
    assert compiled.sampling.temperature == 0.1
    assert compiled.sampling.top_k == 5
    assert compiled.receipt["overrides"] == [
        {
            "parameter": "temperature",
            "value": 0.1,
            "instead_of": creative_sampling(90).temperature,
            "knob": "creativity",
        }
    ]


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("temperature", 0.0, 0.0),
        ("top_p", 0.5, 0.5),
        ("top_k", 3, 3),
        ("min_p", 0.2, 0.2),
        ("presence_penalty", 1.0, 1.0),
        ("frequency_penalty", 0.3, 0.3),
        ("repetition_penalty", 1.1, 1.1),
        ("max_tokens", 9, 9),
        ("min_tokens", 2, 2),
        ("seed", 0, 0),
        ("stop", ("a",), ["a"]),
        ("stop_token_ids", (7,), [7]),
        ("ignore_eos", True, True),
        ("logit_bias", {5: -1.0}, {"5": -1.0}),
        ("top_logprobs", 0, 0),
    ],
)
def test_every_parameter_of_the_caller_reaches_the_engine_and_the_receipt(name: str, value: Any, shown: Any) -> None:
    compiled = make_compiled({"depth": 50}, asked=CallerSampling(**{name: value}))
    assert getattr(compiled.sampling, name) == value
    assert compiled.receipt["sampling"][name] == shown
    json.dumps(compiled.receipt)


def test_a_low_max_tokens_of_the_caller_leaves_room_for_the_answer_to_end() -> None:
    sampling = make_compiled({"depth": 100}, asked=CallerSampling(max_tokens=100)).sampling
    assert sampling.max_tokens == 100
    assert sampling.min_tokens == 37


def test_a_high_min_tokens_of_the_caller_raises_the_knobs_limit() -> None:
    sampling = make_compiled({"depth": 0}, asked=CallerSampling(min_tokens=500)).sampling
    assert sampling.min_tokens == 500
    assert (sampling.max_tokens or 0) > 500


def test_min_tokens_is_refused_where_a_grammar_ends_the_answer() -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_compiled(ls={"format": "steps"}, asked=CallerSampling(min_tokens=5))
    assert caught.value.param == "min_tokens"
    assert make_compiled(ls={"summary_first": "on"}, asked=CallerSampling(min_tokens=5)).sampling.min_tokens == 5


# Forms


@pytest.mark.parametrize("answer_format", ["bullets", "steps", "json"])
@pytest.mark.parametrize("level", [None, 0, 100])
def test_a_closed_form_sets_no_minimum_and_a_limit_above_what_it_can_hold(
    answer_format: str, level: int | None
) -> None:
    lp: Mapping[str, int] = {} if level is None else {"depth": level}
    sampling = make_compiled(lp, {"format": answer_format}).sampling
    assert sampling.min_tokens == 0
    assert sampling.max_tokens is not None
    assert sampling.max_tokens > {None: 1500, 0: 200, 100: 6000}[level]


def test_depth_moves_the_size_of_a_form() -> None:
    for answer_format in ("bullets", "steps", "json"):
        limits = [
            make_compiled({"depth": level}, {"format": answer_format}).sampling.max_tokens or 0
            for level in range(0, 101, 10)
        ]
        assert limits == sorted(limits)
        assert limits[-1] > 5 * limits[0]


def test_neighbouring_depths_share_a_grammar_so_that_the_engine_compiles_few() -> None:
    tags = {json.dumps(make_compiled({"depth": level}, {"format": "steps"}).grammar) for level in range(101)}
    assert len(tags) <= 45


@pytest.mark.parametrize(
    ("ls", "render", "expected"),
    [
        ({}, None, "markdown"),
        ({"format": "bullets"}, None, "markdown"),
        ({"format": "plain"}, None, "text"),
        ({"format": "json"}, None, "json"),
        ({"format": "json"}, "html", "html"),
    ],
)
def test_a_format_implies_a_rendering_unless_one_is_asked_for(
    ls: dict[str, str], render: str | None, expected: str
) -> None:
    assert make_compiled(ls=ls, render=render).rendering == expected


def test_a_callers_schema_makes_the_format_json_and_is_the_grammar() -> None:
    compiled = make_compiled(json_schema=SCHEMA)
    assert compiled.answer_format == "json"
    assert compiled.rendering == "json"
    assert compiled.json_schema == SCHEMA
    assert compiled.grammar == {
        "type": "structural_tag",
        "format": {"type": "json_schema", "json_schema": SCHEMA},
    }
    assert compiled.messages == CONVERSATION
    assert compiled.sampling.max_tokens is None


def test_a_callers_schema_takes_the_place_of_our_own_envelope() -> None:
    compiled = make_compiled(ls={"format": "json"}, json_schema=SCHEMA)
    assert compiled.directive is None
    own = make_compiled(ls={"format": "json"}).json_schema
    assert own is not None
    assert own["required"] == ["answer", "key_points"]


@pytest.mark.parametrize(("name", "value"), [("format", "steps"), ("summary_first", "on"), ("citations", "on")])
def test_a_form_switch_set_by_hand_beside_a_schema_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_compiled(ls={name: value}, sources=SOURCES if name == "citations" else None, json_schema=SCHEMA)
    assert caught.value.param == f"controls.ls.{name}"


def test_a_form_switch_of_a_preset_gives_way_to_a_schema_and_the_receipt_says_so() -> None:
    compiled = make_compiled(ls={"preset": "brainstorm"}, json_schema=SCHEMA)
    assert compiled.answer_format == "json"
    assert {"parameter": "format", "value": "json", "instead_of": "bullets", "knob": "preset"} in compiled.receipt[
        "overrides"
    ]


def test_lines_ask_for_capitals_only_in_latin_script() -> None:
    def first_line(language: str, prompt: str) -> str:
        messages = (Message("user", prompt),)
        return json.dumps(make_compiled(ls={"format": "steps", "language": language}, messages=messages).grammar)

    assert "[A-Z" in first_line("auto", "Wie geht das?")
    assert "[A-Z" in first_line("auto", "Làm thế nào để nấu phở?")
    assert "[A-Z" in first_line("fr", "これはどうやるの？")
    assert "[A-Z" not in first_line("auto", "これはどうやるの？")
    assert "[A-Z" not in first_line("ja", "How does this work?")


def test_reasoning_is_an_effort_for_the_engine() -> None:
    assert make_compiled(capabilities=CAPABLE).reasoning is None
    assert make_compiled(ls={"reasoning": "high"}, capabilities=CAPABLE).reasoning == "high"


# The receipt


def test_the_receipt_tells_what_was_asked_and_what_it_became() -> None:
    receipt = make_compiled({"depth": 25}, {"preset": "brainstorm"}).receipt
    assert list(receipt) == [
        "catalogue",
        "lp",
        "ls",
        "directive",
        "target_words",
        "sampling",
        "format",
        "render",
        "grammar",
        "overrides",
    ]
    assert receipt["catalogue"] == CATALOGUE.hash
    assert receipt["lp"]["depth"]["value"] == 25
    assert receipt["lp"]["depth"]["source"] == "explicit"
    assert receipt["lp"]["depth"]["compiled"]["words"] == 61
    assert receipt["lp"]["creativity"]["source"] == "preset"
    assert receipt["lp"]["formality"] == {"value": 50, "source": "default", "compiled": {}}
    assert receipt["ls"]["format"] == {"value": "bullets", "source": "preset"}
    assert receipt["target_words"] == 61
    assert receipt["grammar"] is True
    assert receipt["sampling"]["temperature"] == make_compiled({"creativity": 85}).sampling.temperature


def test_a_preview_tells_the_form_and_promises_no_length_before_calibration() -> None:
    body = preview(make_compiled({"depth": 25}, {"format": "steps", "summary_first": "on"}))
    assert body["grammar"] == "summary+steps"
    assert body["expected_words"] is None
    assert body["target_words"] == 61
    json.dumps(body)


# Measuring


@pytest.mark.parametrize(
    ("text", "words", "sentences"),
    [
        ("", 0, 0),
        ("One two three.", 3, 1),
        ("Is it? Yes! It's well-known.", 5, 3),
        ("1. Boil water.\n2. Add 3.5 g of salt.", 9, 2),
        ("- a point\n- another point", 4, 2),
        ('He said "stop." Then left', 5, 2),
        ("今日は。空が青い。", 7, 2),
        ("---\n***", 0, 0),
    ],
)
def test_words_and_sentences_are_counted(text: str, words: int, sentences: int) -> None:
    assert measure(text) == {"words": words, "sentences": sentences}


def test_a_caller_who_samples_by_hand_gets_no_mixture_with_an_untouched_slider() -> None:
    by_hand = make_compiled(asked=CallerSampling(temperature=0.0)).sampling
    assert (by_hand.temperature, by_hand.top_p, by_hand.min_p, by_hand.presence_penalty) == (0.0, 1.0, 0.0, 0.0)
    assert make_compiled().sampling.min_p > 0
    assert make_compiled(lp={"creativity": 35}, asked=CallerSampling(temperature=0.5)).sampling.min_p > 0
