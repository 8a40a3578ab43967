"""Does each lever earn its place? The sweeps again, on catalogues from which levers were taken.

Arms add up, from phrases alone to the catalogue as it is. Each runs on a service of its own, with the dials that its
lever is for; 8 prompts with one seed are enough for what is meant to be a large effect.

Token limits around a target length (min_tokens, max_tokens) belong to the phrase: without them a model that does not
stop would be measured by the limit of the service.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.controls.plan import FIXED, Plan
from benchmarks.controls.samples import CURVES
from deployments.controls.knobs import interpolate
from graph.strict_yaml import read_yaml

ABLATION_PROMPTS = 8
"""One of each kind."""
SHAPING_LEVERS = ("stops",)
"""Levers on the logits that shape length, of answers or of sentences; the others are biases on words."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A catalogue with some of its levers, and the dials to be measured on it."""

    name: str
    knobs: tuple[str, ...]
    sampling: bool = False
    shaper: bool = False
    bias: bool = False
    expansion: bool = False


ARMS = (
    Arm("phrase only", ("depth", "technicality", "formality")),
    Arm("+ shaper", ("depth", "technicality"), sampling=True, shaper=True),
    Arm("+ bias", ("technicality", "formality"), sampling=True, shaper=True, bias=True),
    Arm("+ expansion", ("creativity", "formality"), sampling=True, shaper=True, bias=True, expansion=True),
)
"""The last one is the catalogue as it is. Creativity has no phrase: its sampling is all of it, and the last arm's."""


def strip_catalogue(catalogue: Mapping[str, Any], arm: Arm) -> dict[str, Any]:
    """The catalogue's data with only the levers of ``arm``; a new one, the argument stays as it is."""
    stripped: dict[str, Any] = copy.deepcopy(dict(catalogue))
    for name, slider in stripped["lp"].items():
        if not arm.sampling and "sampling" in slider:
            # Sampling stands still where the slider stands in the other sweeps: off would be another model.
            curves = {key: tuple((level, value) for level, value in curve) for key, curve in slider["sampling"].items()}
            still = {key: interpolate(curve, FIXED.get(name, 50)) for key, curve in curves.items()}
            slider["sampling"] = {key: [[0, value], [100, value]] for key, value in still.items()}
        if not arm.shaper and "length" in slider:
            slider["length"] = {**slider["length"], "shaped": False}
        logits = {key: curve for key, curve in slider.pop("logits", {}).items() if _keeps(key, arm)}
        if logits:
            slider["logits"] = logits
        if not arm.expansion:
            slider.pop("expand_contractions_from", None)
    return stripped


def write_stripped(source: Path, arm: Arm, folder: Path) -> Path:
    """Writes the arm's catalogue below ``folder`` and returns the file."""
    path = folder / f"controls-{arm.name.strip('+ ').replace(' ', '-')}.yaml"
    # JSON is YAML, and quotes every text: no switch's value "off" becomes false.
    path.write_text(json.dumps(strip_catalogue(read_yaml(source).data, arm), ensure_ascii=False))
    return path


def ablation_plan(plan: Plan) -> Plan:
    """The same levels on fewer prompts, with the first seed."""
    return replace(plan, seeds=1, prompts=plan.prompts[:ABLATION_PROMPTS])


def summarise(knob: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """What of a sweep's figures tells arms apart."""
    losses = figures["relevance"]["loss"].values()
    return {
        "curves": {
            name: {
                "rho": figures[name]["rho"],
                "rho_of_means": figures[name]["rho_of_means"],
                "means": {level: values["mean"] for level, values in figures[name]["levels"].items()},
            }
            for name in CURVES[knob]
        },
        "graceful": figures["graceful"]["all"],
        "relevance_loss": max(losses) if losses else None,
        **{name: figures[name] for name in ("range", "length_error", "contractions") if name in figures},
    }


def _keeps(lever: str, arm: Arm) -> bool:
    return arm.shaper if lever in SHAPING_LEVERS else arm.bias
