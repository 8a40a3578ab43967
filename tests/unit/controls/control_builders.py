"""Builders for the control tests: the shipped catalogue, and a request compiled against it in one call."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployments.controls.calibration import Calibration
from deployments.controls.catalogue import Catalogue, load_catalogue
from deployments.controls.compiler import CallerSampling, CompiledControls, compile_controls
from deployments.controls.request import parse_controls, resolve
from graph.contracts import Message

CATALOGUE_FILE = Path(__file__).parents[3] / "configs" / "controls.yaml"
CATALOGUE = load_catalogue(CATALOGUE_FILE)
CONVERSATION = (
    Message("system", "Be kind."),
    Message("user", "Why is the sky blue?"),
    Message("assistant", "Because of scattering."),
    Message("user", "Tell me more. "),
)
SOURCES = [{"id": "s1", "text": "The sky scatters blue light."}, {"id": "a.b-c", "text": "Water is wet."}]


# Level, mean, fit, p10 and p90, as they could come of a small model: depth overshoots, technicality moves a little,
# formality falls (the fewer casual words the more formal), creativity does nothing.
CURVES: Mapping[str, tuple[str, float, list[tuple[int, float, float, float, float]]]] = {
    "depth": ("words", 0.98, [(0, 31, 30, 20, 40), (50, 180, 180, 150, 220), (100, 790, 800, 600, 950)]),
    "technicality": ("cefr", 0.91, [(0, 1.4, 1.4, 1.2, 1.6), (50, 1.8, 1.8, 1.6, 2.1), (100, 2.4, 2.4, 2.0, 2.9)]),
    "formality": ("casual", 0.84, [(0, 8, 8, 5, 12), (50, 3, 3, 1, 5), (75, 0, 0, 0, 1), (100, 0, 0, 0, 1)]),
    "creativity": ("variety", 0.31, [(0, 0.1, 0.1, 0.0, 0.2), (100, 0.2, 0.2, 0.1, 0.4)]),
}


def calibration_data(**changed: Any) -> dict[str, Any]:
    """The content of a calibration file that fits ``CATALOGUE``, with some of its keys replaced."""
    keys = ("level", "mean", "fitted", "p10", "p90")
    knobs = {
        name: {
            "yardstick": yardstick,
            "unit": yardstick,
            "rho": rho,
            "points": [dict(zip(keys, row, strict=True)) for row in rows],
        }
        for name, (yardstick, rho, rows) in CURVES.items()
    }
    whole = {
        "format": 1,
        "model": "smollm2-135m-instruct",
        "catalogue": CATALOGUE.hash,
        "versions": {"vllm": "0.32.0"},
        "prompts": 40,
        "seeds": 3,
        "tokens_per_word": 1.33,
        "knobs": knobs,
    }
    return {**whole, **changed}


CALIBRATION = Calibration.model_validate(calibration_data())


def make_compiled(
    lp: Mapping[str, int] | None = None,
    ls: Mapping[str, str] | None = None,
    *,
    targets: Mapping[str, float] | None = None,
    calibration: Calibration | None = None,
    asked: CallerSampling | None = None,
    sources: list[dict[str, str]] | None = None,
    render: str | None = None,
    capabilities: frozenset[str] = frozenset(),
    json_schema: Mapping[str, Any] | None = None,
    messages: tuple[Message, ...] = CONVERSATION,
    max_context: int = 100_000,
    catalogue: Catalogue = CATALOGUE,
) -> CompiledControls:
    asked_controls = {"lp": lp or {}, "ls": ls or {}, "targets": targets or {}, "sources": sources or []}
    request = parse_controls({**asked_controls, "render": render})
    return compile_controls(
        resolve(catalogue, request, capabilities, calibration),
        catalogue,
        messages,
        asked or CallerSampling(),
        json_schema=json_schema,
        max_context=max_context,
    )
