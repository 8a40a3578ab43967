"""What a request asks of the controls, and what that comes to: explicit value, else preset, else default.

Pure. Called by the ingress: ``parse_controls`` on the request's ``controls`` field, then ``resolve``. Every
refusal is an ``InvalidRequest`` that names the field, the value got, what is allowed and what was perhaps meant.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError, field_validator

from deployments.controls.calibration import Calibration
from deployments.controls.catalogue import Catalogue
from deployments.controls.hint import did_you_mean, shown
from deployments.controls.knobs import LengthCurve, Number
from graph.contracts import Rendering
from graph.errors import InvalidRequest

Origin = Literal["explicit", "preset", "default"]
MAX_SOURCES = 16
ROUNDING = 0.005
"""Half of the last digit that a yardstick's values are shown with."""


class Source(BaseModel):
    """A text that the answer may cite as ``[id]``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # \Z, not $: the id goes into a grammar and into the prompt, and $ would let a newline through.
    id: Annotated[StrictStr, Field(pattern=r"\A[A-Za-z0-9_.-]{1,32}\z")]
    text: Annotated[StrictStr, Field(min_length=1, max_length=4000)]


class ControlsRequest(BaseModel):
    """The ``controls`` field of a request. Names and values are checked by ``resolve``, against the catalogue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lp: dict[StrictStr, StrictInt] = {}
    """Sliders by name, 0..100. A boolean or a float is refused, not rounded."""
    ls: dict[StrictStr, StrictStr] = {}
    """Switches by name."""
    targets: dict[StrictStr, Number] = {}
    """What a slider's yardstick should say of the answer, in its unit: ``{"depth": 200}`` for about 200 words. It
    becomes the slider's level, in place of one in ``lp``."""
    sources: Annotated[tuple[Source, ...], Field(max_length=MAX_SOURCES)] = ()
    """For ``citations: on``; ids are unique."""
    render: Rendering | None = None
    """None: what the format implies."""

    @field_validator("sources")
    @classmethod
    def _refuse_repeated_ids(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        ids = [source.id for source in sources]
        repeated = next((each for index, each in enumerate(ids) if each in ids[:index]), None)
        if repeated is not None:
            raise ValueError(f"the id {repeated!r} is used twice; ids are unique")
        return sources


def parse_controls(data: object, at: str = "controls") -> ControlsRequest:
    """Read any JSON value as a ``ControlsRequest``.

    Args:
        data: The parsed JSON; None asks for nothing.
        at: Where it stood in the request, for the error's ``param``.

    Raises:
        InvalidRequest: it has another shape; ``param`` names the first field at fault.
    """
    if data is None:
        return ControlsRequest()
    try:
        return ControlsRequest.model_validate(data)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        # The names in the path are the caller's, and may be of any length.
        where = ".".join([at, *(str(part)[:64] for part in fault["loc"] if part != "[key]")])
        if fault["type"] == "extra_forbidden":
            known = tuple(ControlsRequest.model_fields) if len(fault["loc"]) == 1 else tuple(Source.model_fields)
            reason = f"is not a known field; known: {', '.join(known)}.{did_you_mean(fault['loc'][-1], known)}"
        elif fault["type"] == "int_type" and fault["loc"][0] == "lp":
            reason = f"got {shown(fault['input'])}; must be an integer from 0 to 100."
        elif fault["loc"][:1] == ("targets",) and len(fault["loc"]) > 1:
            reason = f"got {shown(fault['input'])}; must be a finite number, in the unit of the slider's yardstick."
        else:
            message = fault["msg"].removeprefix("Value error, ")
            reason = f"got {shown(fault['input'])}; {message[0].lower()}{message[1:]}."
        raise InvalidRequest(f"{where}: {reason}", param=where) from None


@dataclass(frozen=True, slots=True)
class SetLevel:
    """A slider's level 0..100 and who chose it."""

    value: int
    source: Origin
    target: float | None = None
    """What the caller wanted the yardstick to say, which the level was found for; None: the level itself was set."""


@dataclass(frozen=True, slots=True)
class SetValue:
    """A switch's value and who chose it."""

    value: str
    source: Origin


@dataclass(frozen=True, slots=True)
class ResolvedControls:
    """Every knob with its value, in the catalogue's order. Made by ``resolve``, read by the compiler."""

    lp: Mapping[str, SetLevel]
    ls: Mapping[str, SetValue]
    sources: tuple[Source, ...] = ()
    render: Rendering | None = None

    def value(self, switch: str, default: str) -> str:
        """A switch's value, or ``default`` where the catalogue has no such switch."""
        return self.ls[switch].value if switch in self.ls else default


def resolve(
    catalogue: Catalogue,
    request: ControlsRequest,
    capabilities: Collection[str] = (),
    calibration: Calibration | None = None,
) -> ResolvedControls:
    """Give every knob of the catalogue its value: the explicit one, else the preset's, else the default.

    Args:
        catalogue: The knobs.
        request: What the caller set.
        capabilities: What the serving model can do; a switch that needs more may only keep its default.
        calibration: What was measured on the serving model; None: nothing was. A slider that does nothing on it
            may not be set, and a preset leaves it alone.

    Raises:
        InvalidRequest: unknown knob or value, level or target out of range, a missing capability, a slider that
            does nothing on this model, a slider with both level and target, citations without sources or sources
            without citations; ``param`` is the field, for example ``controls.lp.depth``.
    """
    _check_sliders(catalogue, request, capabilities, calibration)
    _check_switches(catalogue, request, capabilities)
    preset = catalogue.ls.get("preset")
    sets = preset.values[request.ls.get("preset", preset.default)].sets if preset else None
    preset_lp = sets.lp if sets else {}
    preset_ls = sets.ls if sets else {}
    aimed = {
        # 200, not 200.0, in the receipt of one who sent 200.
        name: SetLevel(
            _level_for(name, target, catalogue, calibration), "explicit", int(target) if target.is_integer() else target
        )
        for name, target in request.targets.items()
    }
    set_by_hand = {name: SetLevel(level, "explicit") for name, level in request.lp.items()} | aimed
    set_by_preset = {
        name: SetLevel(level, "preset")
        for name, level in preset_lp.items()
        if calibration is None or calibration.works(name)
    }
    untouched = {name: SetLevel(slider.default, "default") for name, slider in catalogue.lp.items()}
    lp = untouched | set_by_preset | set_by_hand
    ls = {
        name: SetValue(request.ls[name], "explicit")
        if name in request.ls
        else (SetValue(preset_ls[name], "preset") if name in preset_ls else SetValue(switch.default, "default"))
        for name, switch in catalogue.ls.items()
    }
    resolved = ResolvedControls(lp, ls, request.sources, request.render)
    _check_citations(resolved)
    return resolved


def _check_sliders(
    catalogue: Catalogue, request: ControlsRequest, capabilities: Collection[str], calibration: Calibration | None
) -> None:
    for kind, asked in (("lp", request.lp), ("targets", request.targets)):
        for name, value in asked.items():
            where = f"controls.{kind}.{name}"
            if name not in catalogue.lp:
                raise _unknown_knob(kind, name, catalogue.lp, "ls", catalogue.ls)
            if kind == "lp" and not 0 <= value <= 100:
                raise InvalidRequest(f"{where}: got {shown(value)}; must be an integer from 0 to 100.", where)
            needs = catalogue.lp[name].needs
            if needs is not None and needs not in capabilities:
                raise _unavailable(where, value, needs)
            if objection := calibration.objection(name) if calibration else None:
                raise InvalidRequest(f"{where}: got {shown(value)}. {objection} Leave it out.", where)
            if kind == "targets" and name in request.lp:
                raise InvalidRequest(
                    f"{where}: got {shown(value)} beside controls.lp.{name}={request.lp[name]}, and both say where the "
                    "slider stands; send one of them.",
                    where,
                )


def _level_for(name: str, target: float, catalogue: Catalogue, calibration: Calibration | None) -> int:
    """The level that a target takes: as was measured, else, of the length slider, as it is meant."""
    length = catalogue.lp[name].length
    if calibration is not None and name in calibration.knobs:
        (low, high), unit = calibration.knobs[name].reach, calibration.knobs[name].unit
        level = calibration.invert(name, target)
    elif length is not None:
        low, high, unit = length.words_at_0, length.words_at_100, "words"
        level = _level_of_words(length, target)
    else:
        raise InvalidRequest(
            f"controls.targets.{name}: got {shown(target)}; the model that serves this was not measured on {name}, so "
            f"nobody knows which level gives that. Set controls.lp.{name} to a level from 0 to 100 instead.",
            f"controls.targets.{name}",
        )
    # The ends are told with two decimals, and what is told is accepted.
    if not low - ROUNDING <= target <= high + ROUNDING:
        raise InvalidRequest(
            f"controls.targets.{name}: got {shown(target)}; {name} reaches {_told(low)} to {_told(high)} here "
            f"({unit}).",
            f"controls.targets.{name}",
        )
    return level


def _level_of_words(length: LengthCurve, words: float) -> int:
    """``LengthCurve.words`` backwards; 0 or 100 beyond its ends."""
    share = math.log(max(words, length.words_at_0) / length.words_at_0) / math.log(
        length.words_at_100 / length.words_at_0
    )
    return min(100, round(100 * share))


def _told(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _check_switches(catalogue: Catalogue, request: ControlsRequest, capabilities: Collection[str]) -> None:
    for name, value in request.ls.items():
        if name not in catalogue.ls:
            raise _unknown_knob("ls", name, catalogue.ls, "lp", catalogue.lp)
        switch = catalogue.ls[name]
        if value not in switch.values:
            raise InvalidRequest(
                f"controls.ls.{name}: got {shown(value)}; must be one of: {', '.join(switch.values)}."
                f"{did_you_mean(value, switch.values)}",
                f"controls.ls.{name}",
            )
        # Asking for the default asks for nothing that the model lacks.
        if switch.needs is not None and switch.needs not in capabilities and value != switch.default:
            raise _unavailable(f"controls.ls.{name}", value, switch.needs)


def _check_citations(resolved: ResolvedControls) -> None:
    citations_on = resolved.value("citations", "off") == "on"
    if citations_on and not resolved.sources:
        raise InvalidRequest(
            "controls.sources: got none; controls.ls.citations is on and needs 1 to "
            f"{MAX_SOURCES} sources, each with an id and a text.",
            "controls.sources",
        )
    if resolved.sources and not citations_on:
        raise InvalidRequest(
            f"controls.sources: got {len(resolved.sources)} while controls.ls.citations is off; they would not be "
            "used. Set controls.ls.citations to on, or leave the sources out.",
            "controls.sources",
        )


def _unknown_knob(
    kind: str, name: str, known: Collection[str], other_kind: str, other: Collection[str]
) -> InvalidRequest:
    hint = f" {name!r} belongs in controls.{other_kind}." if name in other else did_you_mean(name, known)
    where = f"controls.{kind}.{name[:64]}"
    return InvalidRequest(f"{where}: is not a known knob; known: {', '.join(known)}.{hint}", where)


def _unavailable(where: str, value: object, needs: str) -> InvalidRequest:
    return InvalidRequest(
        f"{where}: got {shown(value)}; the model that serves this has no {needs}. Leave it out.", where
    )
