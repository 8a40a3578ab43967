"""What a request may ask of the controls, and which value each knob gets."""

from typing import Any

import pytest
from control_builders import CATALOGUE, SOURCES
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.controls.request import ResolvedControls, parse_controls, resolve
from graph.errors import InvalidRequest


def make_resolved(data: object, capabilities: frozenset[str] = frozenset()) -> ResolvedControls:
    return resolve(CATALOGUE, parse_controls(data), capabilities)


def refusal_of(data: object, capabilities: frozenset[str] = frozenset()) -> tuple[str | None, str]:
    with pytest.raises(InvalidRequest) as caught:
        make_resolved(data, capabilities)
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
        ({"lsp": {}}, "controls.lsp", "known: lp, ls, sources, render."),
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
        "sources": st.lists(
            st.fixed_dictionaries({"id": st.sampled_from(["a", "b", "a b"]), "text": st.text(max_size=3)})
            | JSON_VALUES,
            max_size=3,
        ),
        "render": st.sampled_from(["text", "html", "pdf"]) | JSON_VALUES,
    },
)


@settings(deadline=None)
@given(JSON_VALUES | NEAR_MISSES)
def test_any_json_is_resolved_or_refused_as_an_invalid_request(data: Any) -> None:
    try:
        resolved = make_resolved(data)
    except InvalidRequest as error:
        refused_field = error.param or ""
    else:
        refused_field = None
    if refused_field is not None:
        assert refused_field.startswith("controls")
        return
    assert all(0 <= level.value <= 100 for level in resolved.lp.values())
    assert all(chosen.value in CATALOGUE.ls[name].values for name, chosen in resolved.ls.items())
