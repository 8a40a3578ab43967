"""What a catalogue file may hold, and how a mistake in it is told."""

from collections.abc import Callable
from pathlib import Path

import pytest
from control_builders import CATALOGUE, CATALOGUE_FILE

from deployments.controls.catalogue import describe, load_catalogue
from deployments.controls.knobs import interpolate
from graph.errors import ConfigurationError

SHIPPED = CATALOGUE_FILE.read_text(encoding="utf-8")
Refusal = Callable[[str, str], str]


@pytest.fixture
def refusal(tmp_path: Path) -> Refusal:
    """The message that the shipped file gets when one piece of it is replaced."""

    def refuse(old: str, new: str) -> str:
        assert SHIPPED.count(old) == 1, f"{old!r} must occur once"
        path = tmp_path / "controls.yaml"
        path.write_text(SHIPPED.replace(old, new), encoding="utf-8")
        with pytest.raises(ConfigurationError) as caught:
            load_catalogue(path)
        return str(caught.value)

    return refuse


def test_the_shipped_catalogue_holds_the_designs_knobs_with_the_defaults_first() -> None:
    assert {name: slider.default for name, slider in CATALOGUE.lp.items()} == {
        "depth": 50,
        "creativity": 35,
        "technicality": 50,
        "formality": 50,
    }
    values = {name: tuple(switch.values) for name, switch in CATALOGUE.ls.items()}
    languages = values.pop("language")
    assert values == {
        "preset": ("balanced", "quick", "teach", "deep-dive", "brainstorm"),
        "format": ("markdown", "plain", "bullets", "steps", "json"),
        "summary_first": ("off", "on"),
        "perspective": ("neutral", "you", "we"),
        "hedging": ("natural", "minimal", "explicit"),
        "citations": ("off", "on"),
        "reasoning": ("none", "low", "high"),
    }
    assert languages[0] == "auto"
    assert len(languages) > 22
    assert {"en", "no", "zh"} <= set(languages)


def test_the_numbers_are_those_of_the_design() -> None:
    curves = CATALOGUE.lp["creativity"].sampling.given
    assert [interpolate(curves["temperature"], level) for level in (0, 100)] == [0.0, 1.25]
    assert interpolate(curves["temperature"], 1) == pytest.approx(0.2 + 1.05 / 100, abs=1e-4)
    assert interpolate(curves["temperature"], 50) == pytest.approx(0.725, abs=1e-4)
    assert interpolate(curves["min_p"], 50) == pytest.approx(0.065)
    length = CATALOGUE.lp["depth"].length
    assert length is not None
    assert [round(length.words(level)) for level in (0, 25, 50, 75, 100)] == [25, 61, 150, 367, 900]


def test_a_misspelt_key_is_told_with_its_line_and_what_was_meant(refusal: Refusal) -> None:
    message = refusal("    low: the same answer each time", "    lwo: the same answer each time")
    line = next(n for n, text in enumerate(SHIPPED.splitlines(), 1) if "low: the same answer" in text)
    assert f"controls.yaml:{line}: lp.creativity.lwo: is not a known key" in message
    assert "Did you mean 'low'?" in message


def test_a_misspelt_band_key_is_told_by_its_name_in_the_file(refusal: Refusal) -> None:
    assert "Did you mean 'from'?" in refusal('{from: 76, text: "Take', '{form: 76, text: "Take')


def test_a_key_given_twice_is_refused(refusal: Refusal) -> None:
    message = refusal("    low: casual\n", "    low: casual\n    low: relaxed\n")
    assert "lp.formality.low: was already given on line" in message


def test_an_alias_is_refused(refusal: Refusal) -> None:
    message = refusal("min_p: [[0, 0.10], [100, 0.03]]", "min_p: &a [[0, 0.10], [100, 0.03]]\n      top_k: *a")
    assert "is an alias" in message


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("default: 35", "default: 101", "lp.creativity.default: got 101; input should be less than or equal to 100."),
        ("default: 35", "default: true", "lp.creativity.default: got True"),
        ("default: 35", "default: 35.5", "lp.creativity.default: got 35.5"),
        ("[100, 1.25]", "[100, 2.5]", "lp.creativity.sampling.temperature.2: got 2.5; temperature must be 0 to 2."),
        ("[100, 1.25]", "[99, 1.25]", "it must begin at 0 and end at 100"),
        ("[100, 1.25]", "[100, .nan]", "got nan"),
        ("[[0, 0.0], [1,", "[[0, 0.0], [0,", "got level 0 after 0; levels must increase"),
        ("      temperature:", "      temprature:", "Did you mean 'temperature'?"),
        ('{from: 0, text: ""}', '{from: 5, text: ""}', "lp.creativity.bands.0.from: got 5; the first band"),
        ('{from: 76, text: "Take', '{from: 0, text: "Take', "lp.creativity.bands.1.from: got 0 after 0; bands must"),
        ("Take an unusual", "Take {words} an unusual", "braces hold only: nothing here"),
        ("words_at_100: 900", "words_at_100: 9", "must be above words_at_0 (25)"),
        ("    default: auto", "    default: atuo", "got 'atuo'; must be one of: auto"),
        ("    default: auto", "    default: en", "the default ('en') comes first"),
        ("sets: {lp: {depth: 15}", "sets: {lp: {dept: 15}", "Did you mean 'depth'?"),
        ("sets: {lp: {depth: 15}", "sets: {lp: {depth: 150}", "ls.preset.values.quick.sets.lp.depth: got 150"),
        ("ls: {hedging: minimal}", "ls: {hedging: minmal}", "Did you mean 'minimal'?"),
        ("ls: {hedging: minimal}", "ls: {reasoning: low}", "cannot be set by a preset"),
        ("      steps: {", "      stepz: {", "Did you mean 'steps'?"),
        ("      ar: {", "      arabic: {", "ISO 639-1"),
        ("hedging:\n", "depth:\n", "ls.depth: is also the name of a slider"),
        ("you: {title: You,", "you: {title: You, latin: true,", "only for values of the switch language"),
        ("version: 1", "version: 2", "version: got 2"),
        ("  json_point_chars", "  json_point_char", "Did you mean 'json_point_chars'?"),
        ("{words_at_0: 25, ", "{", "lp.depth.length.words_at_0: is missing"),
    ],
)  # fmt: skip
def test_a_catalogue_that_could_not_be_served_is_refused(refusal: Refusal, old: str, new: str, expected: str) -> None:
    assert expected in refusal(old, new)


def test_a_parameter_has_one_owner(refusal: Refusal) -> None:
    message = refusal(
        "    untouched: neutral\n    bands:\n      - {from: 0, text: \"Use a casual",
        "    untouched: neutral\n    sampling: {top_p: [[0, 1], [100, 1]]}\n"
        "    bands:\n      - {from: 0, text: \"Use a casual",
    )  # fmt: skip
    assert "lp.formality.sampling.top_p: is already compiled by creativity" in message


def test_a_slider_added_as_data_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "controls.yaml"
    warmth = (
        "  warmth: {title: Warmth, meaning: Kindness., low: cool, high: warm, default: 50, untouched: neutral,\n"
        '    bands: [{from: 0, text: ""}, {from: 60, text: "Be warm."}]}\n'
    )
    path.write_text(SHIPPED.replace("lp:\n  depth:", f"lp:\n{warmth}  depth:"), encoding="utf-8")
    catalogue = load_catalogue(path)
    assert catalogue.lp["warmth"].phrase(80) == "Be warm."


@pytest.mark.parametrize("content", ["", "[]", "lp: [", "\t"])
def test_a_file_that_is_no_catalogue_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"broken\.yaml"):
        load_catalogue(path)


def test_a_file_that_is_missing_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml: cannot be read"):
        load_catalogue(tmp_path / "nowhere.yaml")


def test_the_hash_follows_the_content_and_not_the_layout(tmp_path: Path) -> None:
    path = tmp_path / "controls.yaml"
    path.write_text("# another comment\n" + SHIPPED.replace("default: 35", "default:   35"), encoding="utf-8")
    assert load_catalogue(path).hash == CATALOGUE.hash
    path.write_text(SHIPPED.replace("default: 35", "default: 36"), encoding="utf-8")
    assert load_catalogue(path).hash != CATALOGUE.hash
    assert len(CATALOGUE.hash) == 16


def test_the_description_holds_enough_to_draw_every_knob() -> None:
    described = describe(CATALOGUE, {"reasoning"})
    by_name = {control["name"]: control for control in described["controls"]}
    assert list(by_name) == [*CATALOGUE.lp, *CATALOGUE.ls]
    assert by_name["creativity"] == {
        "kind": "lp",
        "name": "creativity",
        "title": "Creativity",
        "meaning": "How varied and surprising the answer is.",
        "available": True,
        "reason": None,
        "min": 0,
        "max": 100,
        "step": 1,
        "default": 35,
        "low": "the same answer each time",
        "high": "unusual ideas",
    }
    quick = next(value for value in by_name["preset"]["values"] if value["value"] == "quick")
    assert quick["sets"] == {"lp": {"depth": 15}, "ls": {"hedging": "minimal"}}
    assert described["catalogue"] == CATALOGUE.hash


def test_a_knob_that_the_model_cannot_serve_is_described_as_unavailable_with_the_reason() -> None:
    def reasoning(capabilities: set[str]) -> dict[str, object]:
        controls = describe(CATALOGUE, capabilities)["controls"]
        return next(control for control in controls if control["name"] == "reasoning")

    assert reasoning({"reasoning"})["available"] is True
    assert reasoning(set())["available"] is False
    assert "reasoning" in str(reasoning(set())["reason"])
