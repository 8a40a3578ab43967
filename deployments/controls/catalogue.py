"""The control catalogue: which sliders and switches there are, read from a file and described to clients.

``load_catalogue`` reads ``configs/controls.yaml`` and refuses whatever the compiler could not serve, so that
nothing in it needs checking again. Called at start-up by the ingress; it decides nothing about a request.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import Field, Strict, StrictInt, StringConstraints, ValidationError, model_validator

from deployments.controls.hint import did_you_mean, shown
from deployments.controls.knobs import (
    Forms,
    KnobName,
    Settings,
    Slider,
    StrictModel,
    Switch,
    SwitchValue,
    check_placeholders,
    fault,
)
from graph.contracts import AnswerFormat
from graph.errors import ConfigurationError
from graph.strict_yaml import KeyPath, read_yaml

if TYPE_CHECKING:
    from deployments.controls.calibration import Calibration

CODED_VALUES: Mapping[str, tuple[str, ...]] = {
    "format": get_args(AnswerFormat),
    "summary_first": ("off", "on"),
    "citations": ("off", "on"),
    "reasoning": ("none", "low", "high"),
}
"""Switches whose values mean something in code, so that data cannot add to them."""


CasualWord = Annotated[str, Strict(), StringConstraints(pattern=r"^[a-z]{1,20}$")]


_DESCRIPTIVE = ("title", "meaning", "low", "high", "moves_with")
"""Of a knob or a value: told, and compiled into nothing."""


class Catalogue(StrictModel):
    """All knobs. ``hash`` identifies what steers: 16 hex digits, the same for the same answers."""

    version: Annotated[StrictInt, Field(ge=1, le=1)]
    lp: dict[KnobName, Slider]
    ls: dict[KnobName, Switch]
    forms: Forms
    casual_words: Annotated[tuple[CasualWord, ...], Field(max_length=500)] = ()
    """Words that the lever ``casual`` bends, beside contractions and exclamation marks."""

    @cached_property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of what compiles into requests, as canonical JSON.

        Comments, layout and what people read beside a knob don't count: who translates a title, or declares what a
        knob moves too, measures nothing anew. The order of knobs does: directives stand in it.
        """
        steering = self.model_dump(mode="json")
        for knob in (*steering["lp"].values(), *steering["ls"].values()):
            for part in (knob, *knob.get("values", {}).values()):
                for name in _DESCRIPTIVE:
                    part.pop(name, None)
        content = json.dumps(steering, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def length_slider(self) -> str | None:
        """The slider that sets the target length, if there is one."""
        return next((name for name, slider in self.lp.items() if slider.length), None)

    @model_validator(mode="after")
    def _check_knobs_together(self) -> "Catalogue":
        _check_sliders(self.lp)
        for name, switch in self.ls.items():
            if name in self.lp:
                raise fault("is also the name of a slider; knob names are unique.", "ls", name)
            _check_switch(name, switch)
        for value, position in (self.ls["preset"].values if "preset" in self.ls else {}).items():
            if position.sets:
                _check_settings(self, position.sets, ("ls", "preset", "values", value, "sets"))
        return self


def _check_sliders(sliders: Mapping[str, Slider]) -> None:
    owner: dict[str, str] = {}
    for name, slider in sliders.items():
        for key in (
            *(f"sampling.{parameter}" for parameter in slider.sampling.given),
            *(f"logits.{lever}" for lever in slider.logits.given),
            *(["length"] * bool(slider.length)),
        ):
            if key in owner:
                raise fault(f"is already compiled by {owner[key]}; one owner only.", "lp", name, *key.split("."))
            owner[key] = name
        for other in slider.moves_with:
            if other not in sliders or other == name:
                others = [each for each in sliders if each != name]
                raise fault(
                    f"is not another slider; known: {', '.join(others)}.{did_you_mean(other, others)}",
                    "lp", name, "moves_with", other,
                )  # fmt: skip


def _check_switch(name: str, switch: Switch) -> None:
    for value, position in switch.values.items():
        at = ("ls", name, "values", value)
        check_placeholders(position.phrase, {"{ids}"} if name == "citations" else set(), *at, "phrase")
        if position.sets is not None and name != "preset":
            raise fault("is only for values of the switch preset.", *at, "sets")
        if position.latin is not None and name != "language":
            raise fault("is only for values of the switch language.", *at, "latin")
        if name in CODED_VALUES and value not in CODED_VALUES[name]:
            raise fault(
                f"is not a value that the code knows; known: {', '.join(CODED_VALUES[name])}."
                f"{did_you_mean(value, CODED_VALUES[name])}",
                *at,
            )
        if name == "language" and value != "auto" and not re.fullmatch("[a-z]{2}", value):
            raise fault("is not an ISO 639-1 code of two letters.", *at)
    if name == "citations" and switch.default != "off":
        raise fault("must be off: on refuses every request that brings no sources.", "ls", name, "default")


def _check_settings(catalogue: Catalogue, settings: Settings, at: KeyPath) -> None:
    knobs: dict[str, Mapping[str, Any]] = {"lp": catalogue.lp, "ls": catalogue.ls}
    for kind, chosen in (("lp", settings.lp), ("ls", settings.ls)):
        for name in chosen:
            if name not in knobs[kind]:
                raise fault(
                    f"is not a known knob; known: {', '.join(knobs[kind])}.{did_you_mean(name, knobs[kind])}",
                    *at, kind, name,
                )  # fmt: skip
            if name in ("preset", "citations") or knobs[kind][name].needs:
                raise fault("cannot be set by a preset: it would be refused where a need is not met.", *at, kind, name)
    for name, value in settings.ls.items():
        if value not in catalogue.ls[name].values:
            allowed = catalogue.ls[name].values
            raise fault(
                f"got {value!r}; must be one of: {', '.join(allowed)}.{did_you_mean(value, allowed)}",
                *at,
                "ls",
                name,
            )


def load_catalogue(path: Path | str) -> Catalogue:
    """Read and check a catalogue file. Blocks on the disk.

    Raises:
        ConfigurationError: one line a fault, each ``file:line: key.path: what was got; what is allowed``.
    """
    file = read_yaml(Path(path))
    try:
        return Catalogue.model_validate(file.data)
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False):
            at: KeyPath = tuple(part for part in fault["loc"] if part != "[key]")
            if fault["type"] == "catalogue":
                at, reason = (*at, *fault["ctx"]["path"]), fault["ctx"]["reason"]
            elif fault["type"] == "missing":
                reason = "is missing; it has no default."
            else:
                message = fault["msg"]
                reason = f"got {shown(fault['input'])}; {message[0].lower()}{message[1:]}."
            faults.append(f"{file.place(at)}: {'.'.join(map(str, at)) or 'the file'}: {reason}")
        raise ConfigurationError("\n".join(faults)) from error


def describe(
    catalogue: Catalogue, capabilities: Collection[str] = (), calibration: "Calibration | None" = None
) -> dict[str, Any]:
    """Describe every knob, JSON-ready, sliders first, in the catalogue's order.

    Args:
        catalogue: What there is.
        capabilities: What the serving model can do, for example ``{"reasoning"}``.
        calibration: What was measured on the serving model; None: nothing was.

    Returns:
        ``{"version", "catalogue": hash, "controls": [...]}``. A knob whose need is not met, or that does nothing on
        this model, stays in the list with ``available`` false and the ``reason``: a client can grey it out and say
        why. A slider's ``calibration`` is what to expect at each measured level, null where nothing was measured.
    """
    controls = [
        {
            "kind": "lp",
            **_common(name, slider, capabilities, calibration.objection(name) if calibration else None),
            "min": 0,
            "max": 100,
            "step": 1,
            "default": slider.default,
            "low": slider.low,
            "high": slider.high,
            "moves_with": slider.moves_with,
            "calibration": _expectations(name, calibration),
        }
        for name, slider in catalogue.lp.items()
    ]
    controls += [
        {
            "kind": "ls",
            **_common(name, switch, capabilities),
            "default": switch.default,
            "values": [_value(value, position) for value, position in switch.values.items()],
            "needs_sources": name == "citations",
        }
        for name, switch in catalogue.ls.items()
    ]
    return {"version": catalogue.version, "catalogue": catalogue.hash, "controls": controls}


def _common(
    name: str, knob: Slider | Switch, capabilities: Collection[str], objection: str | None = None
) -> dict[str, Any]:
    is_met = knob.needs is None or knob.needs in capabilities
    reason = objection if is_met else f"The model that serves this has no {knob.needs}."
    return {
        "name": name,
        "title": knob.title,
        "meaning": knob.meaning,
        "available": reason is None,
        "reason": reason,
    }


def _expectations(name: str, calibration: "Calibration | None") -> dict[str, Any] | None:
    if calibration is None or name not in calibration.knobs:
        return None
    knob = calibration.knobs[name]
    # Two decimals: below what any yardstick tells apart.
    levels = [
        {
            "level": point.level,
            "low": round(point.p10, 2),
            "high": round(point.p90, 2),
            "expected": round(point.fitted, 2),
        }
        for point in knob.points
    ]
    return {"yardstick": knob.yardstick, "unit": knob.unit, "rho": round(knob.rho, 2), "levels": levels}


def _value(value: str, position: SwitchValue) -> dict[str, Any]:
    sets = {"sets": position.sets.model_dump()} if position.sets else {}
    return {"value": value, "title": position.title, **sets}
