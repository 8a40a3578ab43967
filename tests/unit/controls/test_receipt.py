"""What a receipt says once there is an answer."""

import copy
import json
import math
from typing import Any

import pytest
from control_builders import CALIBRATION, make_compiled

from deployments.controls.compiler import CompiledControls
from deployments.controls.receipt import complete_receipt

CASUAL = "Hey, it's gonna be awesome, and you'll see that we don't wait long for it!"
FORMAL = "The weather will be fine, and you will see that we do not wait long for it."
GERMAN = "Das Wetter wird morgen sehr schön, und wir werden nicht lange darauf warten müssen."


def complete(
    compiled: CompiledControls, answer: str, previous: str | None = None, calibration: Any = None
) -> dict[str, Any]:
    before = copy.deepcopy(dict(compiled.receipt))
    receipt = complete_receipt(compiled.receipt, answer, previous, calibration, compiled.language)
    assert compiled.receipt == before, "mutated"
    json.dumps(receipt)
    return receipt


def words(count: int) -> str:
    return " ".join(["word"] * count)


def test_a_receipt_keeps_what_was_compiled_and_adds_what_came_of_it() -> None:
    compiled = make_compiled({"depth": 50, "formality": 10})
    receipt = complete(compiled, "One two three. Four five.")
    assert receipt["measured"] == {"words": 5, "sentences": 2}
    for key, value in compiled.receipt.items():
        if key != "lp":
            assert receipt[key] == value
    for name, entry in compiled.receipt["lp"].items():
        assert entry.items() <= receipt["lp"][name].items()
        assert set(receipt["lp"][name]) - set(entry) == {"measured", "fit", "change"}


def test_an_untouched_request_is_told_its_words_and_nothing_that_costs() -> None:
    receipt = complete(make_compiled(), CASUAL, FORMAL, CALIBRATION)
    assert receipt["lp"]["depth"]["measured"] == {"yardstick": "words", "value": 15}
    assert receipt["lp"]["depth"]["fit"] is None
    for name in ("creativity", "technicality", "formality"):
        entry = receipt["lp"][name]
        assert (entry["measured"], entry["fit"], entry["change"]) == (None, None, None)


def test_a_touched_slider_is_measured_by_its_yardstick() -> None:
    receipt = complete(make_compiled({"technicality": 20, "formality": 20, "creativity": 90}), CASUAL)
    assert receipt["lp"]["technicality"]["measured"]["yardstick"] == "cefr"
    assert receipt["lp"]["formality"]["measured"] == {"yardstick": "casual", "value": 46.67}
    assert receipt["lp"]["creativity"]["measured"] is None, "variety takes several answers"


def test_a_slider_that_a_preset_moved_is_measured_too() -> None:
    assert complete(make_compiled(ls={"preset": "teach"}), FORMAL)["lp"]["technicality"]["measured"] is not None


def test_the_change_since_the_previous_answer_is_told_in_the_yardsticks_unit() -> None:
    compiled = make_compiled({"formality": 90})
    receipt = complete(compiled, FORMAL, CASUAL)
    assert receipt["lp"]["formality"]["change"] == -46.67
    assert receipt["lp"]["depth"]["change"] == 2
    assert complete(compiled, FORMAL)["lp"]["formality"]["change"] is None
    assert complete(compiled, FORMAL, "Yes.")["lp"]["formality"]["change"] is None, "too short to have a style"
    assert complete(compiled, FORMAL, GERMAN)["lp"]["formality"]["change"] is None


def test_styles_of_other_languages_and_of_json_are_not_read() -> None:
    touched = {"technicality": 20, "formality": 20}
    for compiled, answer in (
        (make_compiled(touched, {"language": "de"}), GERMAN),
        (make_compiled(touched), GERMAN),
        (make_compiled(touched), "Растения зелёные, и они любят солнечный свет и воду."),
        (make_compiled(touched, {"format": "json"}), json.dumps({"answer": CASUAL})),
    ):
        receipt = complete(compiled, answer, CASUAL, CALIBRATION)
        for name in touched:
            assert receipt["lp"][name]["measured"] is None
            assert receipt["lp"][name]["fit"] is None
        assert receipt["lp"]["depth"]["measured"]["value"] > 0


@pytest.mark.parametrize(
    ("count", "fit"),
    [
        (150, 1.0),
        (220, 1.0),
        # All that depth reaches here is 800 - 30 words.
        (220 + 385, 0.5),
        (150 - 77, 0.9),
        (220 + 770, 0.0),
        (5000, 0.0),
    ],
)
def test_an_answer_fits_inside_the_calibrated_range_and_less_the_further_off(count: int, fit: float) -> None:
    receipt = complete(make_compiled({"depth": 50}), words(count), None, CALIBRATION)
    assert receipt["lp"]["depth"]["fit"] == fit


def test_formality_fits_by_its_own_range() -> None:
    formal, casual = make_compiled({"formality": 100}), make_compiled({"formality": 0})
    assert complete(formal, FORMAL, None, CALIBRATION)["lp"]["formality"]["fit"] == 1
    assert complete(formal, CASUAL, None, CALIBRATION)["lp"]["formality"]["fit"] == 0
    assert complete(casual, FORMAL, None, CALIBRATION)["lp"]["formality"]["fit"] == round(1 - 5 / 8, 2)
    assert complete(casual, FORMAL)["lp"]["formality"]["fit"] is None, "nobody knows what to expect"


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 1, 2, 3, 4, 10])
def test_without_a_calibration_a_length_fits_by_its_ratio_to_the_target(ratio: float) -> None:
    compiled = make_compiled({"depth": 50})
    target = compiled.target_words
    assert target == 150
    count = round(target * ratio)
    expected = max(0.0, 1 - abs(math.log(count / target)) / math.log(4))
    assert complete(compiled, words(count))["lp"]["depth"]["fit"] == pytest.approx(expected, abs=0.01)


def test_an_empty_answer_fits_no_length() -> None:
    receipt = complete(make_compiled({"depth": 50}), "")
    assert receipt["lp"]["depth"]["fit"] == 0
    assert receipt["lp"]["depth"]["measured"] == {"yardstick": "words", "value": 0}


def test_a_target_stands_in_the_receipt_beside_its_level() -> None:
    receipt = complete(make_compiled(targets={"depth": 200}), words(200))
    assert receipt["lp"]["depth"]["source"] == "explicit"
    assert receipt["lp"]["depth"]["target"] == 200
    assert receipt["lp"]["depth"]["fit"] == pytest.approx(1, abs=0.02)
