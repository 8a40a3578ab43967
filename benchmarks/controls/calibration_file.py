"""The calibration of a model, out of the record of its run: what the service reads as ``calibration_file``.

Written through the reader's own model, so that a file that is written can be read.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.controls.figures import isotonic
from benchmarks.controls.plan import SLIDERS
from benchmarks.controls.recording import installed
from benchmarks.controls.samples import MEASURES
from deployments.controls.calibration import Calibration
from deployments.controls.yardsticks import YARDSTICKS

VARIETY_UNIT = "1 - mean cosine of the answers to one prompt"
PLACES = 4


def fitted_levels(figures: Mapping[str, Any], rises: bool) -> dict[int, float]:
    """The isotonic fit of a curve's level means, weighted by how many values each rests on."""
    levels = figures["levels"]
    means = [level["mean"] for level in levels.values()]
    fit = isotonic(means, [level["values"] for level in levels.values()], rises)
    return {int(level): value for level, value in zip(levels, fit, strict=True)}


def make_calibration(record: Mapping[str, Any]) -> Calibration:
    """The calibration of the sliders that a record has.

    Args:
        record: Of ``recording.make_record``.

    Raises:
        ValueError: It has no sweep of depth, which tells the tokens of a word.
    """
    figures, plan = record["figures"], record["plan"]
    if "depth" not in figures:
        raise ValueError("a calibration needs the sweep of depth: it measures the tokens of a word")
    return Calibration.model_validate(
        {
            "format": 1,
            "model": record["service"]["model"],
            "catalogue": record["service"]["catalogue"],
            "versions": {name: version(name) for name in ("rheostat", *installed())},
            "prompts": plan["prompts"],
            "seeds": plan["seeds"],
            "tokens_per_word": figures["depth"]["tokens_per_word"],
            "knobs": {name: _knob(figures[name], *MEASURES[name]) for name in SLIDERS if name in figures},
        }
    )


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Writes the file, one point a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = calibration.model_dump(mode="json")
    knobs = data.pop("knobs")
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in data.items()]
    rows = []
    for name, knob in knobs.items():
        points = ",\n".join(f"   {json.dumps(point)}" for point in knob.pop("points"))
        head = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in knob.items())
        rows.append(f'  {json.dumps(name)}: {{{head}, "points": [\n{points}\n  ]}}')
    lines.append(' "knobs": {\n' + ",\n".join(rows) + "\n }")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _knob(figures: Mapping[str, Any], yardstick: str, sign: int) -> dict[str, Any]:
    curve = figures[yardstick]
    fit = fitted_levels(curve, sign > 0)
    return {
        "yardstick": yardstick,
        "unit": YARDSTICKS[yardstick].unit if yardstick in YARDSTICKS else VARIETY_UNIT,
        "rho": curve["rho"]["value"],
        "points": [
            {
                "level": int(level),
                "mean": values["mean"],
                "fitted": round(fit[int(level)], PLACES),
                "p10": values["quantiles"]["10"],
                "p90": values["quantiles"]["90"],
            }
            for level, values in curve["levels"].items()
        ],
    }
