"""What a calibration file may hold, how a mistake in it is told, and what it promises."""

import copy
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from control_builders import CALIBRATION, CATALOGUE, CATALOGUE_FILE, calibration_data, make_compiled
from hypothesis import given
from hypothesis import strategies as st

from deployments.controls.calibration import Calibration, load_calibration
from deployments.controls.catalogue import describe
from deployments.controls.compiler import CallerSampling
from deployments.controls.preview import preview, promised_range
from graph.errors import ConfigurationError

MODEL = "smollm2-135m-instruct"


def load(path: Path, text: str) -> Calibration:
    path.write_text(text, encoding="utf-8")
    return load_calibration(path, model=MODEL, catalogue=CATALOGUE)


def refusal_of(path: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(path, text)
    message = str(caught.value)
    assert str(path) in message
    assert "benchmarks.controls" in message
    assert "calibration_file to null" in message
    return message


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert load(tmp_path / "model.json", json.dumps(calibration_data(), indent=1)) == CALIBRATION


def test_a_model_may_be_measured_on_some_sliders_only(tmp_path: Path) -> None:
    knobs = calibration_data()["knobs"]
    some = load(tmp_path / "model.json", json.dumps(calibration_data(knobs={"depth": knobs["depth"]})))
    assert some.works("creativity")
    assert list(some.knobs) == ["depth"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "model.json:1: is not valid JSON"),
        ('{\n "format": 1,\n "model": x\n}', "model.json:3: is not valid JSON"),
        ('{"format": 1, "format": 1}', "format: is given twice"),
        ('{"tokens_per_word": NaN}', "got NaN; numbers must be finite"),
        ('{"tokens_per_word": -Infinity}', "got -Infinity; numbers must be finite"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("9" * 5000, "model.json"),
        ("[]", "the file: got []"),
        ("null", "the file: got None"),
    ],
)
def test_a_file_that_is_no_strict_json_is_refused_with_its_line(text: str, expected: str, tmp_path: Path) -> None:
    assert expected in refusal_of(tmp_path / "model.json", text)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.json: cannot be read"):
        load_calibration(tmp_path / "nowhere.json", model=MODEL, catalogue=CATALOGUE)
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigurationError, match=r"binary\.json: cannot be read as UTF-8"):
        load_calibration(binary, model=MODEL, catalogue=CATALOGUE)


def depth(data: dict[str, Any]) -> dict[str, Any]:
    return data["knobs"]["depth"]  # type: ignore[no-any-return]


FAULTS: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("another model", lambda d: d.update(model="llama"), "model: got 'llama'; this service serves 'smollm2-135m-instruct'"),
    ("a stale catalogue", lambda d: d.update(catalogue="0" * 16), f"catalogue: got 0000000000000000, the catalogue is {CATALOGUE.hash} now"),
    ("a hash that is none", lambda d: d.update(catalogue="new"), "catalogue: got 'new'"),
    ("another format", lambda d: d.update(format=2), "format: got 2"),
    ("an unknown key", lambda d: d.update(modle="x"), "modle: is not a known key; known here: format, model"),
    ("an unknown key of a slider", lambda d: depth(d).update(roh=1), "knobs.depth.roh: is not a known key"),
    ("an unknown key of a point", lambda d: depth(d)["points"][1].update(p50=1), "knobs.depth.points.1.p50: is not a known key"),
    ("a missing key", lambda d: d.pop("seeds"), "seeds: is missing"),
    ("no prompts", lambda d: d.update(prompts=0), "prompts: got 0"),
    ("text for a number", lambda d: depth(d).update(rho="0.9"), "knobs.depth.rho: got '0.9'"),
    ("a correlation of two", lambda d: depth(d).update(rho=2), "knobs.depth.rho: got 2"),
    ("an infinite number", lambda d: depth(d)["points"][0].update(mean=float("1e400")), "numbers must be finite"),
    ("a slider that is gone", lambda d: d["knobs"].update(dept=depth(d)), "knobs.dept: is not a slider; known: depth, creativity, technicality, formality. Did you mean 'depth'?"),
    ("an unknown yardstick", lambda d: depth(d).update(yardstick="lines"), "knobs.depth.yardstick: got 'lines'"),
    ("another slider's yardstick", lambda d: depth(d).update(yardstick="cefr"), "knobs.depth.yardstick: got 'cefr'; must be 'words'"),
    ("no points", lambda d: depth(d).update(points=[]), "knobs.depth.points: got points at levels []"),
    ("points from 10 on", lambda d: depth(d)["points"][0].update(level=10), "knobs.depth.points: got points at levels [10, 50, 100]; they must begin at 0 and end at 100"),
    ("points up to 90", lambda d: depth(d)["points"][-1].update(level=90), "they must begin at 0 and end at 100"),
    ("a level twice", lambda d: depth(d)["points"].insert(1, depth(d)["points"][0]), "knobs.depth.points.1.level: got 0 after 0"),
    ("half a level", lambda d: depth(d)["points"][1].update(level=50.5), "knobs.depth.points.1.level: got 50.5"),
    ("a range upside down", lambda d: depth(d)["points"][1].update(p10=230), "knobs.depth.points.1.p10: got 230, above p90 (220)"),
    ("a fit that turns back", lambda d: depth(d)["points"][1].update(fitted=20), "knobs.depth.points.1.fitted: got 20 after 30; the fit must rise"),
    ("a falling fit that turns back", lambda d: d["knobs"]["formality"]["points"][1].update(fitted=9), "knobs.formality.points.1.fitted: got 9 after 8; the fit must fall"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "expected"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_fault_is_told_with_its_key_and_what_to_do(
    spoil: Callable[[dict[str, Any]], Any], expected: str, tmp_path: Path
) -> None:
    data = copy.deepcopy(calibration_data())
    spoil(data)
    assert expected in refusal_of(tmp_path / "model.json", json.dumps(data))


def test_a_number_beyond_floating_point_is_refused(tmp_path: Path) -> None:
    text = json.dumps(calibration_data()).replace('"rho": 0.98', '"rho": 1e999')
    assert "knobs.depth.rho: got inf" in refusal_of(tmp_path / "model.json", text)


def test_every_fault_has_a_line(tmp_path: Path) -> None:
    data = calibration_data(model="llama", catalogue="0" * 16)
    message = refusal_of(tmp_path / "model.json", json.dumps(data))
    assert [line.split(": ")[1] for line in message.splitlines()[:2]] == ["model", "catalogue"]


def test_between_two_measured_levels_it_expects_what_lies_between() -> None:
    assert CALIBRATION.expected("depth", 0) == (20, 40)
    assert CALIBRATION.expected("depth", 50) == (150, 220)
    assert CALIBRATION.expected("depth", 25) == (85, 130)
    assert CALIBRATION.expected("depth", 100) == (600, 950)
    assert CALIBRATION.fitted("depth", 75) == 490


def test_a_value_is_traced_back_to_the_lowest_level_that_gives_it() -> None:
    assert [CALIBRATION.invert("depth", words) for words in (0, 30, 180, 490, 800, 10_000)] == [0, 0, 50, 75, 100, 100]
    # Falling, and flat from 75 on.
    assert [CALIBRATION.invert("formality", marks) for marks in (20, 8, 3, 1.5, 0, -1)] == [0, 0, 50, 62, 75, 100]


LEVELS = st.lists(st.integers(1, 99), unique=True, max_size=8).map(lambda inner: [0, *sorted(inner), 100])


@st.composite
def strict_curves(draw: st.DrawFn) -> Calibration:
    """A calibration of depth whose fit rises, or falls, at every point."""
    levels = draw(LEVELS)
    steps = draw(st.lists(st.floats(0.01, 1000), min_size=len(levels), max_size=len(levels)))
    sign = draw(st.sampled_from([1, -1]))
    points = [
        {"level": level, "mean": value, "fitted": value, "p10": value, "p90": value}
        for level, value in zip(levels, (sign * total for total in itertools.accumulate(steps)), strict=True)
    ]
    return Calibration.model_validate(
        calibration_data(knobs={"depth": {"yardstick": "words", "unit": "words", "rho": sign, "points": points}})
    )


@given(strict_curves(), st.integers(0, 100))
def test_the_value_of_a_level_leads_back_to_the_level(calibration: Calibration, level: int) -> None:
    assert abs(calibration.invert("depth", calibration.fitted("depth", level)) - level) <= 1


@given(strict_curves(), st.lists(st.floats(-20_000, 20_000), min_size=2, max_size=2))
def test_levels_follow_the_order_of_the_values(calibration: Calibration, values: list[float]) -> None:
    low, high = (calibration.invert("depth", value) for value in sorted(values))
    assert (high - low) * calibration.knobs["depth"].rho >= 0


def test_a_slider_works_from_a_correlation_of_a_half_on() -> None:
    assert [name for name in CATALOGUE.lp if not CALIBRATION.works(name)] == ["creativity"]
    assert CALIBRATION.objection("depth") is None
    assert "0.31" in str(CALIBRATION.objection("creativity"))


def test_a_slider_that_moves_the_wrong_way_does_not_work() -> None:
    knobs = copy.deepcopy(calibration_data()["knobs"])
    knobs["depth"]["rho"] = -0.9
    assert not Calibration.model_validate(calibration_data(knobs=knobs)).works("depth")


# What clients see of it


def test_the_description_tells_what_to_expect_at_each_level() -> None:
    sliders = {knob["name"]: knob for knob in describe(CATALOGUE, (), CALIBRATION)["controls"] if knob["kind"] == "lp"}
    assert sliders["formality"]["calibration"]["yardstick"] == "casual"
    assert sliders["depth"]["calibration"] == {
        "yardstick": "words",
        "unit": "words",
        "rho": 0.98,
        "levels": [
            {"level": 0, "low": 20, "high": 40, "expected": 30},
            {"level": 50, "low": 150, "high": 220, "expected": 180},
            {"level": 100, "low": 600, "high": 950, "expected": 800},
        ],
    }
    assert sliders["depth"]["available"] is True


def test_the_description_shows_a_slider_that_does_nothing_as_unavailable_with_the_figure() -> None:
    creativity = next(knob for knob in describe(CATALOGUE, (), CALIBRATION)["controls"] if knob["name"] == "creativity")
    assert creativity["available"] is False
    assert "0.31" in creativity["reason"]
    assert creativity["calibration"]["rho"] == 0.31


def test_a_preview_promises_what_was_measured() -> None:
    body = preview(make_compiled({"depth": 25, "formality": 75}), CALIBRATION)
    assert body["expected_words"] == {"low": 85, "high": 130}
    assert body["lp"]["depth"]["expected"] == {"yardstick": "words", "unit": "words", "low": 85, "high": 130}
    assert body["lp"]["formality"]["expected"] == {"yardstick": "casual", "unit": "casual", "low": 0, "high": 1}
    assert body["lp"]["technicality"]["expected"] is None
    json.dumps(body)


def test_the_range_that_is_promised_is_the_one_that_the_preview_shows() -> None:
    compiled = make_compiled({"depth": 25, "formality": 75})
    assert promised_range("depth", compiled, CALIBRATION) == (85, 130)
    assert promised_range("formality", compiled, CALIBRATION) == (0, 1)
    for name, calibration in (("technicality", CALIBRATION), ("depth", None), ("spin", CALIBRATION)):
        assert promised_range(name, compiled, calibration) is None


def test_a_preview_of_a_target_shows_it_beside_its_level() -> None:
    body = preview(make_compiled(targets={"depth": 490}, calibration=CALIBRATION), CALIBRATION)
    assert (body["lp"]["depth"]["value"], body["lp"]["depth"]["target"]) == (75, 490)
    assert body["expected_words"] == {"low": 375, "high": 585}
    assert "target" not in preview(make_compiled({"depth": 75}))["lp"]["depth"]


@pytest.mark.parametrize(
    "compiled",
    [
        make_compiled(),
        make_compiled({"depth": 25}, {"format": "steps"}),
        make_compiled({"depth": 25}, {"summary_first": "on"}),
        make_compiled({"depth": 25}, {"language": "de"}),
        make_compiled({"depth": 25}, asked=CallerSampling(max_tokens=20)),
        make_compiled({"depth": 25}, json_schema={"type": "object"}),
    ],
    ids=[
        "an untouched slider",
        "another form",
        "a summary first",
        "another language",
        "the caller's limit",
        "a schema",
    ],
)
def test_a_preview_promises_nothing_that_was_not_measured(compiled: Any) -> None:
    body = preview(compiled, CALIBRATION)
    assert body["expected_words"] is None
    assert body["lp"]["depth"]["expected"] is None
    assert promised_range("depth", compiled, CALIBRATION) is None


SHIPPED = sorted((CATALOGUE_FILE.parent / "calibration").glob("*.json"))


def test_a_calibration_is_shipped() -> None:
    assert SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_calibration_is_of_the_shipped_catalogue_and_its_dials_work(path: Path) -> None:
    calibration = load_calibration(path, model=path.stem, catalogue=CATALOGUE)
    assert set(calibration.knobs) == set(CATALOGUE.lp)
    assert [name for name in calibration.knobs if not calibration.works(name)] == []
