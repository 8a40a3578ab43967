"""What a setting would do, without generating: the body of ``POST /v1/controls/preview``, and what it promises."""

from collections.abc import Mapping
from typing import Any

from deployments.controls.calibration import Calibration
from deployments.controls.compiler import CompiledControls


def preview(compiled: CompiledControls, calibration: Calibration | None = None) -> dict[str, Any]:
    """Show what the controls of a request compile into, JSON-ready.

    Nothing is expected of a slider that ``promised_range`` has no range for.

    Returns:
        The receipt, with ``grammar`` as the kind of form, None for free text; each slider's ``expected`` as
        ``{"yardstick", "unit", "low", "high"}`` or None; ``expected_words`` as ``{"low", "high"}`` or None.
    """
    sliders = {
        name: {**entry, "expected": _expect(name, compiled, calibration)}
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


def promised_range(
    name: str, compiled: CompiledControls, calibration: Calibration | None
) -> tuple[float, float] | None:
    """The range in which eight answers of ten lie, in the unit of the slider's yardstick.

    A promise needs a measurement: None for a slider that is not there, that nobody touched, that was not calibrated, or
    that a parameter of the caller's overrides; nor for an answer in a form or in a language other than was measured,
    which is free text in English.
    """
    entry: Mapping[str, Any] | None = compiled.receipt["lp"].get(name)
    if entry is None or calibration is None or name not in calibration.knobs:
        return None
    is_as_measured = compiled.grammar_kind is None and compiled.speaks_english
    is_overridden = any(override["knob"] == name for override in compiled.receipt["overrides"])
    is_at_work = entry["source"] != "default" or bool(entry["compiled"])
    return calibration.expected(name, entry["value"]) if is_as_measured and is_at_work and not is_overridden else None


def _expect(name: str, compiled: CompiledControls, calibration: Calibration | None) -> dict[str, Any] | None:
    promised = promised_range(name, compiled, calibration)
    if promised is None or calibration is None:
        return None
    knob = calibration.knobs[name]
    low, high = promised
    return {"yardstick": knob.yardstick, "unit": knob.unit, "low": round(low, 2), "high": round(high, 2)}
