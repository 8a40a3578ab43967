"""What one model was measured to do at each level of each slider: read from a file that ``benchmarks.controls`` writes.

A promise needs a measurement: from here come the range that a level is expected to give, the level that a wanted
value takes, and which sliders do nothing on this model. ``load_calibration`` refuses a file of another model or of
another catalogue, and whatever else the methods here could not rely on. Pure but for reading the file.
"""

import itertools
import json
from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StrictInt, StrictStr, ValidationError, model_validator

from deployments.controls.catalogue import Catalogue
from deployments.controls.hint import did_you_mean, shown
from deployments.controls.knobs import KnobName, Level, Line, Number, StrictModel, fault
from deployments.controls.yardsticks import MEASURED_BY
from graph.errors import ConfigurationError

MIN_RHO = 0.5
"""Spearman's rank correlation of level and yardstick; a slider below it does nothing that a person could rely on."""

_MEND = "Measure anew with `python -m benchmarks.controls --url URL --out FILE`, or set calibration_file to null."


class CalibrationPoint(StrictModel):
    """What a yardstick gave at one level, over all prompts and seeds; in the yardstick's unit."""

    level: Level
    mean: Number
    fitted: Number
    """The isotonic fit of the means: monotone over the levels, so that it can be read backwards."""
    p10: Number
    p90: Number

    @model_validator(mode="after")
    def _check_range(self) -> "CalibrationPoint":
        if self.p10 > self.p90:
            raise fault(f"got {self.p10:g}, above p90 ({self.p90:g}); nine answers of ten lie above p10.", "p10")
        return self


class KnobCalibration(StrictModel):
    """One slider on one model."""

    yardstick: Literal["words", "cefr", "casual", "variety"]
    unit: Line
    rho: Annotated[Number, Field(ge=-1, le=1)]
    """Signed in the slider's direction: above 0 it moves the way that it promises."""
    points: tuple[CalibrationPoint, ...]

    @model_validator(mode="after")
    def _check_points(self) -> "KnobCalibration":
        levels = [point.level for point in self.points]
        if not levels or levels[0] != 0 or levels[-1] != 100:
            raise fault(f"got points at levels {levels}; they must begin at 0 and end at 100.", "points")
        for index, (left, right) in enumerate(itertools.pairwise(levels)):
            if right <= left:
                reason = f"got {right} after {left}; levels must increase from point to point."
                raise fault(reason, "points", index + 1, "level")
        fitted = [point.fitted for point in self.points]
        falls = fitted[-1] < fitted[0]
        for index, (one, other) in enumerate(itertools.pairwise(fitted)):
            if (other > one) if falls else (other < one):
                way = "fall" if falls else "rise"
                raise fault(
                    f"got {other:g} after {one:g}; the fit must {way} all the way, as it does from {fitted[0]:g} to "
                    f"{fitted[-1]:g}.",
                    "points", index + 1, "fitted",
                )  # fmt: skip
        return self

    @cached_property
    def reach(self) -> tuple[float, float]:
        """The lowest and the highest value of the fit."""
        ends = self.points[0].fitted, self.points[-1].fitted
        return min(ends), max(ends)


class Calibration(StrictModel):
    """What one model was measured to do, by slider. Made by ``load_calibration``."""

    format: Annotated[StrictInt, Field(ge=1, le=1)]
    model: Line
    catalogue: Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{16}$")]
    """The hash of the catalogue that was measured."""
    versions: dict[StrictStr, StrictStr]
    """Of what could move the figures: engine, packages, this project."""
    prompts: Annotated[StrictInt, Field(ge=1)]
    seeds: Annotated[StrictInt, Field(ge=1)]
    tokens_per_word: Annotated[Number, Field(gt=0)]
    knobs: dict[KnobName, KnobCalibration]

    def expected(self, knob: str, level: int) -> tuple[float, float]:
        """The range in which eight answers of ten lie at a level, in the yardstick's unit.

        Raises:
            KeyError: the slider is not calibrated; ask ``knobs`` first.
        """
        return self._at(knob, level, lambda point: point.p10), self._at(knob, level, lambda point: point.p90)

    def fitted(self, knob: str, level: int) -> float:
        """The typical value at a level, in the yardstick's unit. Raises KeyError like ``expected``."""
        return self._at(knob, level, lambda point: point.fitted)

    def invert(self, knob: str, value: float) -> int:
        """The level whose typical value is nearest to ``value``; 0 or 100 beyond the ends.

        Where the fit is flat, the lowest of the levels that give the value. Raises KeyError like ``expected``.
        """
        points = self.knobs[knob].points
        # A falling curve read upside down is a rising one.
        sign = -1 if points[-1].fitted < points[0].fitted else 1
        values = [sign * point.fitted for point in points]
        at = bisect_left(values, sign * value)
        if at == 0:
            return 0
        if at == len(points):
            return 100
        share = (sign * value - values[at - 1]) / (values[at] - values[at - 1])
        return round(points[at - 1].level + share * (points[at].level - points[at - 1].level))

    def works(self, knob: str) -> bool:
        """Whether a slider moves answers the way that it promises; True where it was not measured."""
        return knob not in self.knobs or self.knobs[knob].rho >= MIN_RHO

    def objection(self, knob: str) -> str | None:
        """Why a slider is not offered on this model, with the figure; None when it ``works``."""
        if self.works(knob):
            return None
        return (
            f"On {self.model} it does too little: levels and answers correlate by {self.knobs[knob].rho:.2f} "
            f"(Spearman), at least {MIN_RHO} is needed."
        )

    def _at(self, knob: str, level: int, value: Callable[[CalibrationPoint], float]) -> float:
        for left, right in itertools.pairwise(self.knobs[knob].points):
            if level <= right.level:
                share = (level - left.level) / (right.level - left.level)
                # Exact at both ends.
                return value(left) * (1 - share) + value(right) * share
        raise AssertionError(f"a curve covers 0..100, got level {level}")


def load_calibration(path: Path | str, *, model: str, catalogue: Catalogue) -> Calibration:
    """Read and check a calibration file. Blocks on the disk.

    Args:
        path: The file.
        model: The id of the model that is served.
        catalogue: The knobs as they are now.

    Raises:
        ConfigurationError: the file cannot be read, is not strict JSON, has another shape, or is of another model or
            catalogue. One line a fault with the file and the line or key, then what to do about it.
    """
    path = Path(path)
    data = _read_json(path)
    try:
        calibration = Calibration.model_validate(data)
    except ValidationError as error:
        raise _refusal(*(f"{path}: {_describe(dict(each))}" for each in error.errors(include_url=False))) from error
    if faults := list(_misfits(calibration, model, catalogue)):
        raise _refusal(*(f"{path}: {each}" for each in faults))
    return calibration


def _misfits(calibration: Calibration, model: str, catalogue: Catalogue) -> "itertools.chain[str]":
    """Why the calibration is of no use to this service."""
    whole = []
    if calibration.model != model:
        whole.append(f"model: got {shown(calibration.model)}; this service serves {model!r}.")
    if calibration.catalogue != catalogue.hash:
        whole.append(
            f"catalogue: got {calibration.catalogue}, the catalogue is {catalogue.hash} now; a knob was retuned "
            "since the model was measured."
        )
    knobs = []
    for name, knob in calibration.knobs.items():
        if name not in catalogue.lp:
            known = ", ".join(catalogue.lp)
            knobs.append(f"knobs.{name}: is not a slider; known: {known}.{did_you_mean(name, catalogue.lp)}")
        elif knob.yardstick != MEASURED_BY.get(name, knob.yardstick):
            knobs.append(f"knobs.{name}.yardstick: got {knob.yardstick!r}; must be {MEASURED_BY[name]!r}.")
    return itertools.chain(whole, knobs)


def _read_json(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refusal(f"{path}: cannot be read as UTF-8 text: {error}.") from error
    try:
        return json.loads(text, object_pairs_hook=_refuse_repeated_keys, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise _refusal(f"{path}:{error.lineno}: is not valid JSON: {error.msg}.") from error
    except RecursionError as error:
        raise _refusal(f"{path}: is nested too deeply to be a calibration.") from error
    except ValueError as error:
        raise _refusal(f"{path}: {error}") from error


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key}: is given twice in one object; keep one.")
        found[key] = value
    return found


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"got {constant}; numbers must be finite.")


def _describe(error: Mapping[str, Any]) -> str:
    at = tuple(part for part in error["loc"] if part != "[key]")
    if error["type"] == "catalogue":
        at, reason = (*at, *error["ctx"]["path"]), error["ctx"]["reason"]
    elif error["type"] == "missing":
        reason = "is missing; it has no default."
    else:
        message = error["msg"]
        reason = f"got {shown(error['input'])}; {message[0].lower()}{message[1:]}."
    return f"{'.'.join(map(str, at)) or 'the file'}: {reason}"


def _refusal(*faults: str) -> ConfigurationError:
    return ConfigurationError("\n".join([*faults, _MEND]))
