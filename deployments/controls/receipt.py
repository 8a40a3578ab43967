"""The receipt of one answer: what was asked and compiled, and now what came of it, slider by slider. Pure.

Called by the ingress when an answer is whole. Untouched sliders are not measured, so that a request without controls
pays for none; a touched one costs a fraction of a millisecond (see ``yardsticks``).
"""

import math
from collections.abc import Mapping
from typing import Any

from deployments.controls.calibration import Calibration
from deployments.controls.measure import measure
from deployments.controls.prompt_language import is_english
from deployments.controls.yardsticks import MEASURED_BY, YARDSTICKS, Yardstick

UNFIT_RATIO = 4.0
"""Without a calibration, an answer this many times as long as was asked, or as short, has fit 0."""


def complete_receipt(
    compiled_receipt: Mapping[str, Any],
    answer_text: str,
    previous_assistant_text: str | None,
    calibration: Calibration | None,
    language: str | None,
) -> dict[str, Any]:
    """The compiled receipt with what the answer came to, JSON-ready. Mutates nothing.

    Args:
        compiled_receipt: From ``compile_controls``.
        answer_text: The answer before it was rendered.
        previous_assistant_text: The answer before this one in the conversation; None: there was none.
        calibration: What was measured on the serving model; None: nothing.
        language: What was asked for, ISO 639-1; None: the prompt's own.

    Returns:
        All of ``compiled_receipt``; ``measured`` as ``{"words", "sentences"}``; and in each slider's entry

        * ``measured``: ``{"yardstick", "value"}`` in the yardstick's unit. None where the slider has no yardstick for
          a single answer, nobody touched it (words are told always), or the yardstick cannot read the answer: another
          language than English, JSON, only a few words.
        * ``fit``: 1 inside the range that the level is calibrated to give, falling to 0 at a distance from it as long
          as all that the slider reaches; for length without a calibration 1 at the target, 0 at a quarter of it or
          four times. None where there is nothing to compare with.
        * ``change``: the value minus that of the previous answer; None without one that the yardstick can read.
    """
    counts = measure(answer_text)
    is_json = compiled_receipt["format"] == "json"
    sliders: dict[str, Any] = {}
    for name, entry in compiled_receipt["lp"].items():
        is_touched = entry["source"] != "default"
        measured = fit = change = None
        yardstick = YARDSTICKS[MEASURED_BY[name]] if name in MEASURED_BY else None
        if yardstick is not None and (is_touched or yardstick.name == "words"):
            words = counts["words"] if yardstick.name == "words" else None
            value = words if words is not None else _read(yardstick, answer_text, language, is_json)
            if value is not None:
                measured = {"yardstick": yardstick.name, "value": round(value, 2)}
                fit = _fit(name, entry["value"], value, calibration) if is_touched else None
                if fit is None and words is not None and is_touched:
                    fit = _length_fit(words, compiled_receipt["target_words"])
                before = _read(yardstick, previous_assistant_text, language, is_json)
                change = None if before is None else round(value - before, 2)
        sliders[name] = {
            **entry,
            "measured": measured,
            "fit": None if fit is None else round(fit, 2),
            "change": change,
        }
    return {**compiled_receipt, "lp": sliders, "measured": counts}


def _read(yardstick: Yardstick, text: str | None, language: str | None, is_json: bool) -> float | None:
    if text is None:
        return None
    # Keys, braces and escapes are nobody's style.
    if yardstick.languages is not None and (is_json or not is_english(language or "auto", text)):
        return None
    return yardstick.function(text)


def _fit(name: str, level: int, value: float, calibration: Calibration | None) -> float | None:
    if calibration is None or name not in calibration.knobs:
        return None
    low, high = calibration.expected(name, level)
    distance = max(low - value, value - high, 0.0)
    least, most = calibration.knobs[name].reach
    if distance == 0:
        return 1.0
    return max(0.0, 1 - distance / (most - least)) if most > least else 0.0


def _length_fit(words: int, target_words: int | None) -> float | None:
    if not target_words:
        return None
    return max(0.0, 1 - abs(math.log(words / target_words)) / math.log(UNFIT_RATIO)) if words else 0.0
