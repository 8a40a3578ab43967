"""What a catalogue file may hold, and how a mistake in it is told."""

import itertools
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from control_builders import CATALOGUE, CATALOGUE_FILE, make_compiled
from pydantic import ValidationError

from deployments.controls.catalogue import Catalogue, describe, load_catalogue
from deployments.controls.knobs import LEVER_LIMITS, LeverCurves, interpolate
from deployments.controls.logits.plan_args import from_extra_args, to_extra_args
from graph.contracts import LogitsPlan
from graph.errors import ConfigurationError

SHIPPED = CATALOGUE_FILE.read_text(encoding="utf-8")
Edit = Callable[[str, str], Path]
Refusal = Callable[[str, str], str]


@pytest.fixture
def edited(tmp_path: Path) -> Edit:
    """A copy of the shipped file in which one piece is replaced."""

    def edit(old: str, new: str) -> Path:
        assert SHIPPED.count(old) == 1, f"{old!r} must occur once"
        path = tmp_path / "controls.yaml"
        path.write_text(SHIPPED.replace(old, new), encoding="utf-8")
        return path

    return edit


@pytest.fixture
def refusal(edited: Edit) -> Refusal:
    """The message that the shipped file gets when one piece of it is replaced."""

    def refuse(old: str, new: str) -> str:
        with pytest.raises(ConfigurationError) as caught:
            load_catalogue(edited(old, new))
        return str(caught.value)

    return refuse


def shipped_line(key: str) -> str:
    """The line of the shipped file that gives ``key`` its value; there is one."""
    (line,) = (each for each in SHIPPED.splitlines() if each.lstrip().startswith(f"{key}: "))
    return line


def set_to(key: str, value: str) -> tuple[str, str]:
    """That line, and what it reads with another value: an edit that stays one when the file is retuned."""
    line = shipped_line(key)
    return line, f"{line[: line.index(key)]}{key}: {value}"


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


def test_a_curve_is_straight_between_its_points_and_exact_at_them() -> None:
    curve = ((0, 0.0), (1, 0.2), (100, 1.19))
    assert [interpolate(curve, level) for level in (0, 1, 100)] == [0.0, 0.2, 1.19]
    assert interpolate(curve, 50) == pytest.approx(0.69)
    assert interpolate(curve, 99) == pytest.approx(1.18)


def test_the_numbers_are_those_of_the_design() -> None:
    temperature = CATALOGUE.lp["creativity"].sampling.given["temperature"]
    warmth = [interpolate(temperature, level) for level in range(101)]
    assert warmth[0] == 0.0, "exactly: greedy"
    assert all(cooler < warmer for cooler, warmer in itertools.pairwise(warmth))
    # Hotter, the packaged model's answers left their question.
    assert warmth[100] <= 1.0
    length = CATALOGUE.lp["depth"].length
    assert length is not None
    assert [round(length.words(level)) for level in (0, 25, 50, 75, 100)] == [25, 61, 150, 367, 900]


def test_no_slider_samples_by_top_p_which_sorts_the_vocabulary_at_every_step() -> None:
    assert [name for name, slider in CATALOGUE.lp.items() if "top_p" in slider.sampling.given] == []


def test_the_levers_pull_towards_the_ends_that_their_sliders_are_labelled_with() -> None:
    def ends(slider: str, lever: str) -> tuple[float, float]:
        low, high = (interpolate(CATALOGUE.lp[slider].logits.given[lever], level) for level in (0, 100))
        return low, high

    # For a child: common words and short sentences; for an expert: rare words and long ones.
    common, rare = ends("technicality", "rarity")
    assert common < 0 < rare
    short, long = ends("technicality", "stops")
    assert short > 0 > long
    casual, formal = ends("formality", "casual")
    assert casual > 0 > formal


def test_a_misspelt_key_is_told_with_its_line_and_what_was_meant(refusal: Refusal) -> None:
    message = refusal("    low: the same answer each time", "    lwo: the same answer each time")
    line = next(n for n, text in enumerate(SHIPPED.splitlines(), 1) if "low: the same answer" in text)
    assert f"controls.yaml:{line}: lp.creativity.lwo: is not a known key" in message
    assert "Did you mean 'low'?" in message


def test_a_misspelt_band_key_is_told_by_its_name_in_the_file(refusal: Refusal) -> None:
    assert "Did you mean 'from'?" in refusal('{from: 0, text: "Use short', '{form: 0, text: "Use short')


def test_a_key_given_twice_is_refused(refusal: Refusal) -> None:
    message = refusal("    low: casual\n", "    low: casual\n    low: relaxed\n")
    assert "lp.formality.low: was already given on line" in message


def test_an_alias_is_refused(refusal: Refusal) -> None:
    message = refusal(*set_to("min_p", "&a [[0, 0.1], [100, 0.1]]\n      frequency_penalty: *a"))
    assert "is an alias" in message


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("default: 35", "default: 101", "lp.creativity.default: got 101; input should be less than or equal to 100."),
        ("default: 35", "default: true", "lp.creativity.default: got True"),
        ("default: 35", "default: 35.5", "lp.creativity.default: got 35.5"),
        (*set_to("temperature", "[[0, 0], [1, 0.2], [100, 2.5]]"),
         "lp.creativity.sampling.temperature.2: got 2.5; temperature must be 0 to 2."),
        (*set_to("temperature", "[[0, 0], [99, 1]]"), "it must begin at 0 and end at 100"),
        (*set_to("temperature", "[[0, 0], [100, .nan]]"), "got nan"),
        (*set_to("temperature", "[[0, 0], [0, 0.2], [100, 1]]"), "got level 0 after 0; levels must increase"),
        ("      temperature:", "      temprature:", "Did you mean 'temperature'?"),
        ('{from: 0, text: "Use short', '{from: 5, text: "Use short', "lp.technicality.bands.0.from: got 5; the first band"),
        ('{from: 20, text: "Use plain', '{from: 0, text: "Use short',
         "lp.technicality.bands.1.from: got 0 after 0; bands must"),
        ('{from: 20, text: "Use plain', '{from: 20, text: "{words} Use plain', "braces hold only: nothing here"),
        (*set_to("length", "{words_at_0: 25, words_at_100: 9, tokens_per_word: 1}"), "must be above words_at_0 (25)"),
        ("tokens_per_word: ", "shaped: maybe, tokens_per_word: ", "lp.depth.length.shaped: got 'maybe'"),
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
        (*set_to("length", "{words_at_100: 900, tokens_per_word: 1}"), "lp.depth.length.words_at_0: is missing"),
        ("lp:\n  depth:", "lp:\n"
         "  idle: {title: I, meaning: I., low: l, high: h, default: 0, untouched: neutral, bands: [{from: 0, text: ''}]}\n"
         "  depth:", "lp.idle: compiles into nothing"),
    ],
)  # fmt: skip
def test_a_catalogue_that_could_not_be_served_is_refused(refusal: Refusal, old: str, new: str, expected: str) -> None:
    assert expected in refusal(old, new)


def test_a_parameter_has_one_owner(refusal: Refusal) -> None:
    message = refusal(
        "    untouched: neutral\n    bands:\n      - {from: 0, text: \"Use a casual",
        "    untouched: neutral\n    sampling: {min_p: [[0, 0], [100, 0]]}\n"
        "    bands:\n      - {from: 0, text: \"Use a casual",
    )  # fmt: skip
    assert "lp.formality.sampling.min_p: is already compiled by creativity" in message


BAD_LEVERS = [
    # An edit of the file, the key that is at fault and what is said of it.
    (("      rarity: ", "      rarety: "), "lp.technicality.logits.rarety",
     f"is not a known key; known here: {', '.join(LEVER_LIMITS)}. Did you mean 'rarity'?"),
    (("      stops: ", "      temperature: "), "lp.technicality.logits.temperature", "is not a known key"),
    (set_to("rarity", "[[0, -1], [50, 0], [100, 2.1]]"), "lp.technicality.logits.rarity.2",
     "got 2.1; rarity must be -2 to 2."),
    (set_to("rarity", "[[0, -2.1], [100, 1]]"), "lp.technicality.logits.rarity.0", "got -2.1; rarity must be -2 to 2."),
    (set_to("stops", "[[0, 8.1], [100, -1]]"), "lp.technicality.logits.stops.0", "got 8.1; stops must be -8 to 8."),
    (set_to("casual", "[[0, 1], [80, -30.5], [100, -25]]"), "lp.formality.logits.casual.1",
     "got -30.5; casual must be -30 to 30."),
    (set_to("rarity", "[[0, -1], [99, 1]]"), "lp.technicality.logits.rarity",
     "got a curve over levels [0, 99]; it must begin at 0 and end at 100."),
    (set_to("stops", "[[1, 2], [100, -1]]"), "lp.technicality.logits.stops",
     "got a curve over levels [1, 100]; it must begin at 0 and end at 100."),
    (set_to("casual", "[]"), "lp.formality.logits.casual", "got a curve over levels []; it must"),
    (set_to("casual", "[[0, 1], [80, -4], [80, -25], [100, -25]]"), "lp.formality.logits.casual.2",
     "got level 80 after 80; levels must increase"),
    (set_to("rarity", "[[0, -1], [100, .inf]]"), "lp.technicality.logits.rarity.1.1", "got inf"),
    (set_to("rarity", "[[0, -1], [100, true]]"), "lp.technicality.logits.rarity.1.1", "got True"),
    ((shipped_line("casual"), f"      stops: [[0, 0], [100, 1]]\n{shipped_line('casual')}"),
     "lp.formality.logits.stops", "is already compiled by technicality; one owner only."),
    ((shipped_line("expand_contractions_from"),
      f"    length: {{words_at_0: 1, words_at_100: 2, tokens_per_word: 1}}\n{shipped_line('expand_contractions_from')}"),
     "lp.formality.length", "is already compiled by depth; one owner only."),
    (('creativity: "Longer', 'creativty: "Longer'), "lp.depth.moves_with.creativty",
     "is not another slider; known: creativity, technicality, formality. Did you mean 'creativity'?"),
    (('creativity: "Longer', 'depth: "Longer'), "lp.depth.moves_with.depth", "is not another slider; known: creativity,"),
    (('creativity: "Longer', 'format: "Longer'), "lp.depth.moves_with.format", "is not another slider"),
    (('technicality: "Formal', 'Technicality: "Formal'), "lp.formality.moves_with.Technicality", "got 'Technicality'"),
    (('creativity: "Longer answers have more room to differ, and to repeat a pair of words."', 'creativity: ""'), "lp.depth.moves_with.creativity", "got ''"),
    (("casual_words: [hey, ", "casual_words: [hey, Gonna, "), "casual_words.1", "got 'Gonna'"),
    (("casual_words: [hey, ", "casual_words: [hey, you guys, "), "casual_words.1", "got 'you guys'"),
    (("casual_words: [hey, ", 'casual_words: [hey, "y\'all", '), "casual_words.1", 'got "y\'all"'),
    (("casual_words: [hey, ", 'casual_words: ["", '), "casual_words.0", "got ''"),
    (("casual_words: [hey, ", "casual_words: [7, "), "casual_words.0", "got 7"),
    (set_to("expand_contractions_from", "101"), "lp.formality.expand_contractions_from",
     "got 101; input should be less than or equal to 100."),
    (set_to("expand_contractions_from", "-1"), "lp.formality.expand_contractions_from", "got -1"),
    (set_to("expand_contractions_from", "true"), "lp.formality.expand_contractions_from", "got True"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "key", "reason"), BAD_LEVERS, ids=[f"{key}: {reason}"[:70] for _, key, reason in BAD_LEVERS]
)
def test_a_bad_lever_is_refused_with_file_line_and_key(
    refusal: Refusal, edit: tuple[str, str], key: str, reason: str
) -> None:
    message = refusal(*edit)
    assert len(message.splitlines()) == 1, "one mistake, one line"
    place, found, said = message.split(": ", 2)
    lines = zip(SHIPPED.splitlines(), SHIPPED.replace(*edit).splitlines(), strict=False)
    changed = next(number for number, (before, after) in enumerate(lines, 1) if before != after)
    assert (Path(place).name, found) == (f"controls.yaml:{changed}", key)
    assert said.startswith(reason)


@pytest.mark.parametrize(("lever", "limit"), LEVER_LIMITS.items())
def test_a_lever_may_go_up_to_its_limit_either_way_and_no_further(lever: str, limit: float) -> None:
    curve = ((0, -limit), (100, limit))
    assert LeverCurves.model_validate({lever: curve}).given == {lever: curve}
    for over in (((0, -limit - 0.01), (100, 0.0)), ((0, 0.0), (100, limit + 0.01))):
        with pytest.raises(ValidationError, match=f"{lever} must be {-limit:g} to {limit:g}"):
            LeverCurves.model_validate({lever: over})


def test_every_lever_has_a_limit_that_the_engine_takes_and_a_place_in_its_plan() -> None:
    assert list(LeverCurves.model_fields) == list(LEVER_LIMITS)
    assert set(LEVER_LIMITS) <= {field.name for field in fields(LogitsPlan)}
    for lever, limit in LEVER_LIMITS.items():
        plan = LogitsPlan(**{lever: -limit})
        assert from_extra_args(to_extra_args(plan, [])) == (plan, ())


@pytest.mark.parametrize("level", [0, 100])
def test_contractions_may_be_written_out_from_any_level(edited: Edit, level: int) -> None:
    catalogue = load_catalogue(edited(*set_to("expand_contractions_from", str(level))))
    assert catalogue.lp["formality"].expand_contractions_from == level


def test_a_slider_added_as_data_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "controls.yaml"
    warmth = (
        "  warmth: {title: Warmth, meaning: Kindness., low: cool, high: warm, default: 50, untouched: neutral,\n"
        '    bands: [{from: 0, text: ""}, {from: 60, text: "Be warm."}]}\n'
    )
    path.write_text(SHIPPED.replace("lp:\n  depth:", f"lp:\n{warmth}  depth:"), encoding="utf-8")
    catalogue = load_catalogue(path)
    assert [catalogue.lp["warmth"].phrase(level) for level in (0, 59, 60, 100)] == ["", "", "Be warm.", "Be warm."]
    assert make_compiled({"warmth": 59}, catalogue=catalogue).directive is None
    assert make_compiled({"warmth": 60}, catalogue=catalogue).directive == "Be warm."


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


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("title: Depth", "title: Tiefe"),
        ("low: the same answer each time", "low: steady"),
        ("title: Quick,", "title: Schnell,"),
        ("Freer sampling makes longer sentences.", "Sentences grow with it."),
    ],
)
def test_what_people_read_beside_a_knob_changes_no_hash(tmp_path: Path, before: str, after: str) -> None:
    assert SHIPPED.count(before) == 1
    path = tmp_path / "controls.yaml"
    path.write_text(SHIPPED.replace(before, after))
    assert load_catalogue(path).hash == CATALOGUE.hash


def test_the_order_of_knobs_is_in_the_hash_for_directives_stand_in_it() -> None:
    fields = {name: getattr(CATALOGUE, name) for name in Catalogue.model_fields}
    same = Catalogue.model_construct(**fields)
    turned = Catalogue.model_construct(**{**fields, "ls": dict(reversed(CATALOGUE.ls.items()))})
    assert same.hash == CATALOGUE.hash
    assert turned.hash != CATALOGUE.hash


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
        "moves_with": {"technicality": "Freer sampling makes longer sentences."},
        "calibration": None,
    }
    moves_with = {name: by_name[name]["moves_with"] for name in CATALOGUE.lp}
    assert moves_with == {name: slider.moves_with for name, slider in CATALOGUE.lp.items()}
    assert list(moves_with["depth"]) == ["creativity", "technicality", "formality"]
    assert "repeat a pair of words" in moves_with["depth"]["creativity"]
    assert not any("moves_with" in by_name[name] for name in CATALOGUE.ls)
    json.dumps(described)
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
