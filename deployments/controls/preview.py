"""What a setting would do, without generating: the body of ``POST /v1/controls/preview``."""

from collections.abc import Collection, Mapping
from typing import Any

from deployments.controls.calibration import Calibration
from deployments.controls.compiler import CompiledControls


def preview(compiled: CompiledControls, calibration: Calibration | None = None) -> dict[str, Any]:
    """Show what the controls of a request compile into, JSON-ready.

    A promise needs a measurement: None is expected of a slider that nobody touched, that was not calibrated, or that
    a parameter of the caller's overrides; nor of an answer in a form or in a language other than was measured, which is
    free text in English.

    Returns:
        The receipt, with ``grammar`` as the kind of form, None for free text; each slider's ``expected`` as
        ``{"yardstick", "unit", "low", "high"}`` or None; ``expected_words`` as ``{"low", "high"}`` or None.
    """
    is_as_measured = compiled.grammar_kind is None and compiled.speaks_english
    overridden = {override["knob"] for override in compiled.receipt["overrides"]}
    sliders = {
        name: {**entry, "expected": _expect(name, entry, calibration if is_as_measured else None, overridden)}
        for name, entry in compiled.receipt["lp"].items()
    }
    words = next((e for slider in sliders.values() if (e := slider["expected"]) and e["yardstick"] == "words"), None)
    return {
        **compiled.receipt,
        "lp": sliders,
        "grammar": compiled.grammar_kind,
        "language": compiled.language,
        "expected_words": words and {"low": round(words["low"]), "high": round(words["high"])},
    }


def _expect(
    name: str, entry: Mapping[str, Any], calibration: Calibration | None, overridden: Collection[str]
) -> dict[str, Any] | None:
    is_at_work = entry["source"] != "default" or bool(entry["compiled"])
    if calibration is None or name not in calibration.knobs or name in overridden or not is_at_work:
        return None
    knob = calibration.knobs[name]
    low, high = calibration.expected(name, entry["value"])
    return {"yardstick": knob.yardstick, "unit": knob.unit, "low": round(low, 2), "high": round(high, 2)}
