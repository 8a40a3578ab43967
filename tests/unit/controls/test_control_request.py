"""What a request may ask of the controls, and which value each knob gets."""

from typing import Any

import pytest
from control_builders import CALIBRATION, CATALOGUE, SOURCES
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.controls.calibration import Calibration
from deployments.controls.request import ResolvedControls, parse_controls, resolve
from graph.errors import InvalidRequest


def make_resolved(
    data: object, capabilities: frozenset[str] = frozenset(), calibration: Calibration | None = None
) -> ResolvedControls:
    return resolve(CATALOGUE, parse_controls(data), capabilities, calibration)


def refusal_of(
    data: object, capabilities: frozenset[str] = frozenset(), calibration: Calibration | None = None
) -> tuple[str | None, str]:
    with pytest.raises(InvalidRequest) as caught:
        make_resolved(data, capabilities, calibration)
    return caught.value.param, str(caught.value)


def test_an_untouched_knob_has_its_default() -> None:
    resolved = make_resolved({})
    assert (resolved.lp["creativity"].value, resolved.lp["creativity"].source) == (35, "default")
    assert (resolved.ls["format"].value, resolved.ls["format"].source) == ("markdown", "default")
    assert make_resolved(None) == resolved


def test_a_preset_moves_sliders_and_switches_visibly() -> None:
    resolved = make_resolved({"ls": {"preset": "quick"}})
    assert (resolved.lp["depth"].value, resolved.lp["depth"].source) == (15, "preset")
    assert (resolved.ls["hedging"].value, resolved.ls["hedging"].source) == ("minimal", "preset")
    assert resolved.ls["preset"].source == "explicit"
    assert resolved.lp["formality"].source == "default"


def test_a_set_slider_beats_the_preset() -> None:
    resolved = make_resolved({"lp": {"depth": 90}, "ls": {"preset": "quick", "hedging": "explicit"}})
    assert (resolved.lp["depth"].value, resolved.lp["depth"].source) == (90, "explicit")
    assert (resolved.ls["hedging"].value, resolved.ls["hedging"].source) == ("explicit", "explicit")


@pytest.mark.parametrize(
    ("data", "param", "expected"),
    [
        ({"lp": {"dept": 1}}, "controls.lp.dept", "Did you mean 'depth'?"),
        ({"lp": {"format": 1}}, "controls.lp.format", "belongs in controls.ls"),
        ({"ls": {"depth": "1"}}, "controls.ls.depth", "belongs in controls.lp"),
        ({"lp": {"depth": 101}}, "controls.lp.depth", "got 101; must be an integer from 0 to 100."),
        ({"lp": {"depth": -1}}, "controls.lp.depth", "got -1; must be an integer from 0 to 100."),
        ({"lp": {"depth": True}}, "controls.lp.depth", "got True; must be an integer from 0 to 100."),
        ({"lp": {"depth": 50.0}}, "controls.lp.depth", "got 50.0; must be an integer from 0 to 100."),
        ({"lp": {"depth": "50"}}, "controls.lp.depth", "got '50'; must be an integer from 0 to 100."),
        ({"lp": {"depth": 10**5000}}, "controls.lp.depth", "too large to show"),
        ({"ls": {"format": "step"}}, "controls.ls.format", "Did you mean 'steps'?"),
        ({"ls": {"language": "xx"}}, "controls.ls.language", "must be one of: auto, en"),
        ({"ls": {"format": 1}}, "controls.ls.format", "got 1"),
        ({"lsp": {}}, "controls.lsp", "known: lp, ls, targets, sources, render."),
        ({"render": "docx"}, "controls.render", "got 'docx'"),
        ({"ls": {"citations": "on"}}, "controls.sources", "got none"),
        ({"sources": SOURCES}, "controls.sources", "would not be used"),
        ({"sources": SOURCES, "ls": {"citations": "off"}}, "controls.sources", "would not be used"),
        ({"sources": [{"id": "a b", "text": "x"}]}, "controls.sources.0.id", "got 'a b'"),
        ({"sources": [{"id": "a\n", "text": "x"}]}, "controls.sources.0.id", "got 'a\\n'"),
        ({"sources": [{"id": "a", "text": ""}]}, "controls.sources.0.text", "got ''"),
        ({"sources": [{"id": "a", "text": "x" * 4001}]}, "controls.sources.0.text", "4000"),
        ({"sources": [{"id": "a", "text": "x", "txt": "x"}]}, "controls.sources.0.txt", "Did you mean 'text'?"),
        ({"sources": [{"id": "a", "text": "x"}] * 2}, "controls.sources", "'a' is used twice"),
        ({"sources": [{"id": str(n), "text": "x"} for n in range(17)]}, "controls.sources", "16"),
        ({"ls": {"reasoning": "low"}}, "controls.ls.reasoning", "has no reasoning"),
        ({"targets": {"dept": 1}}, "controls.targets.dept", "Did you mean 'depth'?"),
        ({"targets": {"format": 1}}, "controls.targets.format", "belongs in controls.ls"),
        ({"targets": {"depth": True}}, "controls.targets.depth", "got True; must be a finite number"),
        ({"targets": {"depth": "200"}}, "controls.targets.depth", "got '200'; must be a finite number"),
        ({"targets": {"depth": float("nan")}}, "controls.targets.depth", "got nan; must be a finite number"),
        ({"targets": {"depth": float("inf")}}, "controls.targets.depth", "got inf; must be a finite number"),
        ({"targets": {"depth": 10**5000}}, "controls.targets.depth", "too large to show"),
        ({"targets": {"depth": 24}}, "controls.targets.depth", "reaches 25 to 900 here (words)"),
        ({"targets": {"depth": 901}}, "controls.targets.depth", "reaches 25 to 900 here (words)"),
        ({"targets": {"formality": 1}}, "controls.targets.formality", "was not measured on formality"),
        ({"targets": {"depth": 200}, "lp": {"depth": 50}}, "controls.targets.depth", "send one of them"),
        ({"targets": 200}, "controls.targets", "got 200"),
        ([], "controls", "got []"),
    ],
)
def test_a_refusal_names_the_field_the_value_and_what_is_allowed(data: object, param: str, expected: str) -> None:
    got_param, message = refusal_of(data)
    assert got_param == param
    assert expected in message
    assert message.startswith(param)


def test_a_refusal_stays_short_whatever_was_sent() -> None:
    param, message = refusal_of({"lp": {"x" * 100_000: 1}})
    assert param is not None
    assert len(param) < 100
    assert len(message) < 300
    assert len(refusal_of({"ls": {"format": "x" * 100_000}})[1]) < 300
    assert len(refusal_of({"x" * 100_000: 1})[1]) < 300


def test_a_reasoning_model_may_be_asked_to_reason_and_any_model_not_to() -> None:
    assert make_resolved({"ls": {"reasoning": "low"}}, frozenset({"reasoning"})).ls["reasoning"].value == "low"
    assert make_resolved({"ls": {"reasoning": "none"}}).ls["reasoning"].value == "none"


@pytest.mark.parametrize(
    ("data", "param", "expected"),
    [
        ({"targets": {"depth": 29}}, "controls.targets.depth", "got 29.0; depth reaches 30 to 800 here (words)."),
        ({"targets": {"depth": 801}}, "controls.targets.depth", "depth reaches 30 to 800 here (words)."),
        ({"targets": {"technicality": 2.5}}, "controls.targets.technicality", "reaches 1.4 to 2.4 here (cefr)."),
        ({"targets": {"creativity": 0.15}}, "controls.targets.creativity", "0.31"),
        ({"lp": {"creativity": 60}}, "controls.lp.creativity", "correlate by 0.31 (Spearman), at least 0.5 is needed"),
    ],
)
def test_a_measured_model_refuses_what_it_does_not_reach(data: object, param: str, expected: str) -> None:
    got_param, message = refusal_of(data, calibration=CALIBRATION)
    assert got_param == param
    assert expected in message
    assert message.startswith(param)


def test_a_target_becomes_the_level_that_was_measured_to_give_it() -> None:
    resolved = make_resolved({"targets": {"depth": 490, "formality": 5.5}}, calibration=CALIBRATION)
    assert (resolved.lp["depth"].value, resolved.lp["depth"].source) == (75, "explicit")
    assert repr(resolved.lp["depth"].target) == "490"
    # Fewer casual words are more formal.
    assert (resolved.lp["formality"].value, resolved.lp["formality"].target) == (25, 5.5)
    assert make_resolved({"lp": {"depth": 75}}).lp["depth"].target is None


def test_a_length_may_be_asked_for_on_a_model_that_was_never_measured() -> None:
    for words, level in ((25, 0), (150, 50), (900, 100)):
        assert make_resolved({"targets": {"depth": words}}).lp["depth"].value == level


@given(st.integers(0, 100))
def test_the_length_of_a_level_is_a_target_that_gives_the_level(level: int) -> None:
    length = CATALOGUE.lp["depth"].length
    assert length is not None
    assert make_resolved({"targets": {"depth": length.words(level)}}).lp["depth"].value == level


def test_the_ends_that_a_target_may_have_are_accepted_as_they_are_told() -> None:
    for word_count, level in ((30, 0), (800, 100)):
        resolved = make_resolved({"targets": {"depth": word_count}}, calibration=CALIBRATION)
        assert resolved.lp["depth"].value == level


def test_a_target_beats_a_preset() -> None:
    resolved = make_resolved({"targets": {"depth": 900}, "ls": {"preset": "quick"}})
    assert (resolved.lp["depth"].value, resolved.lp["depth"].source) == (100, "explicit")


def test_a_preset_leaves_alone_a_slider_that_does_nothing_on_this_model() -> None:
    resolved = make_resolved({"ls": {"preset": "brainstorm"}}, calibration=CALIBRATION)
    assert (resolved.lp["creativity"].value, resolved.lp["creativity"].source) == (35, "default")
    assert (resolved.lp["depth"].value, resolved.lp["depth"].source) == (40, "preset")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=12), children, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from([*CATALOGUE.lp, *CATALOGUE.ls, "dept", ""])
POSITIONS = st.sampled_from([value for switch in CATALOGUE.ls.values() for value in switch.values])
NEAR_MISSES = st.fixed_dictionaries(
    {},
    optional={
        "lp": st.dictionaries(NAMES, st.integers(-5, 105) | JSON_VALUES, max_size=4),
        "ls": st.dictionaries(NAMES, POSITIONS | JSON_VALUES, max_size=4),
        "targets": st.dictionaries(NAMES, st.floats(0, 1000) | JSON_VALUES, max_size=4),
        "sources": st.lists(
            st.fixed_dictionaries({"id": st.sampled_from(["a", "b", "a b"]), "text": st.text(max_size=3)})
            | JSON_VALUES,
            max_size=3,
        ),
        "render": st.sampled_from(["text", "html", "pdf"]) | JSON_VALUES,
    },
)


@settings(deadline=None)
@given(JSON_VALUES | NEAR_MISSES, st.sampled_from([None, CALIBRATION]))
def test_any_json_is_resolved_or_refused_as_an_invalid_request(data: Any, calibration: Calibration | None) -> None:
    try:
        resolved = make_resolved(data, calibration=calibration)
    except InvalidRequest as error:
        refused_field = error.param or ""
    else:
        refused_field = None
    if refused_field is not None:
        assert refused_field.startswith("controls")
        return
    assert all(0 <= level.value <= 100 for level in resolved.lp.values())
    assert all(chosen.value in CATALOGUE.ls[name].values for name, chosen in resolved.ls.items())
